"""A run against checked values, and against another run: the real command line, a model that lies, both databases."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import BUNDLED, Finished, Thresher

from thresher.testing.model_server import RunningModelServer, running_model_server

PAX = ("--path", "PaxList/Pax")
DOCUMENT = "<r><i><a>1</a><b>2</b></i><i><a>3</a><b>4</b></i><i><a>5</a></i></r>"
LONGER = "<r><i><a>0</a><b>0</b></i><i><a>1</a><b>2</b></i><i><a>3</a><b>4</b></i><i><a>5</a></i></r>"
SCHEMA = "nodes: [{path: i, schema: {type: object, properties: {a: {type: string}, b: {type: [string, 'null']}}}}]"


def discovered(thresher: Thresher, *arguments: str | Path, **environment: str) -> dict[str, Any]:
    done = thresher("discover", *arguments, "--json", "--quiet", **environment)
    assert done.code == 0, done.err
    result: dict[str, Any] = done.json
    return result


def run_of(thresher: Thresher, content: str, *arguments: str | Path) -> str:
    file = thresher.folder / "document.xml"
    file.write_text(content, encoding="utf-8")
    run_id: str = discovered(thresher, file, *arguments)["run_id"]
    return run_id


def by_model(server: RunningModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test-key", "LLM_MODEL": "test-model"}


def refused(done: Finished, *parts: str) -> None:
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert line.startswith("Error: ")
    assert not [part for part in parts if part not in line], line
    assert done.out == ""


@dataclass(frozen=True)
class Lied:
    """What a lying model has read, and what its server says of it. ``truth`` is the structural run."""

    truth: str
    run: str
    facts: int
    values: int
    lies: list[dict[str, Any]]

    @property
    def told(self) -> Counter[tuple[str, str]]:
        return Counter((lie["path"], lie["value"]) for lie in self.lies)


def read_by_a_liar(thresher: Thresher) -> Lied:
    truth = discovered(thresher, BUNDLED, *PAX)["run_id"]
    with running_model_server(lie=0.1) as server:
        read = discovered(thresher, BUNDLED, *PAX, **by_model(server))
        lies = server.stats()["lies"]
    assert 0 < len(lies) < read["fields_total"]
    return Lied(truth, read["run_id"], read["node_facts_extracted"], read["fields_total"], lies)


def test_a_lying_model_is_as_good_as_its_server_says(thresher_on: Thresher) -> None:
    lied = read_by_a_liar(thresher_on)
    assert thresher_on("facts", lied.truth, "--output", "gold.jsonl").code == 0
    share_right = pytest.approx(1 - len(lied.lies) / lied.values)

    every = thresher_on("evaluate", lied.run, "--gold", "gold.jsonl", "--include-ungrounded", "--json").json
    assert every["run_id"] == lied.run
    assert every["micro"]["true_positives"] == lied.values - len(lied.lies)
    assert (every["micro"]["precision"], every["micro"]["recall"]) == (share_right, share_right)
    assert Counter((mistake["path"], mistake["found"]) for mistake in every["wrong"]) == lied.told
    assert (every["missed"], every["extra"]) == ([], [])

    proved = thresher_on("evaluate", lied.run, "--gold", "gold.jsonl", "--json").json
    assert proved["micro"]["precision"] == 1.0, "grounding has left the lies out"
    assert proved["micro"]["recall"] == share_right
    assert len(proved["missed"]) == len(lied.lies)


def test_the_lies_of_a_model_are_what_differs_from_the_true_run(thresher: Thresher) -> None:
    lied = read_by_a_liar(thresher)
    differing = thresher("diff", lied.truth, lied.run, "--json")
    assert differing.code == 1
    found = differing.json
    assert (found["equal"], found["same_document"], found["same_reader"]) == (False, True, False)
    assert found["counts"]["values_changed"] == len(lied.lies)
    assert (found["counts"]["added"], found["counts"]["lost"]) == (0, 0)
    assert found["counts"]["changed"] + found["counts"]["same"] == lied.facts
    changes = [change for difference in found["differences"] for change in difference["values"]]
    assert Counter((change["path"], change["new"]["value"]) for change in changes) == lied.told
    same = thresher("diff", lied.run, lied.run, "--json")
    assert (same.code, same.json["differences"], same.json["equal"]) == (0, [], True)


def test_an_export_that_a_person_has_corrected_is_gold(thresher: Thresher) -> None:
    run = run_of(thresher, DOCUMENT, "--path", "i")
    gold = thresher.folder / "gold.csv"
    assert thresher("facts", run, "--format", "csv", "--output", gold).code == 0
    lines = gold.read_text("utf-8").splitlines()
    corrected = [line.replace(",field,b,2,", ",field,b,TWO,") for line in lines if "/r/i[3]" not in line]
    gold.write_text("\n".join(corrected), encoding="utf-8")

    found = thresher("evaluate", run, "--gold", gold, "--json").json
    assert (found["nodes_in_gold"], found["facts_outside"], found["extra"]) == (2, 1, [])
    (wrong,) = found["wrong"]
    assert (wrong["section_path"], wrong["name"], wrong["expected"], wrong["found"]) == ("/r/i[1]", "b", "TWO", "2")
    every = thresher("evaluate", run, "--gold", gold, "--json", "--all-nodes").json
    assert [(extra["section_path"], extra["found"]) for extra in every["extra"]] == [("/r/i[3]", "5")]

    shown = thresher("evaluate", run, "--gold", gold)
    assert shown.code == 0
    for part in ("wrong (1)", "TWO", "all values (micro)", "0.750", "1 facts of nodes", run, "structural"):
        assert part in shown.out
    assert "wrong" not in thresher("evaluate", run, "--gold", gold, "--misses", "0").out


def test_values_of_records_are_judged_by_their_pointers(thresher: Thresher) -> None:
    (thresher.folder / "nodes.yaml").write_text(SCHEMA, encoding="utf-8")
    run = run_of(thresher, DOCUMENT, "--config", "nodes.yaml")
    gold = thresher.folder / "gold.tsv"
    gold.write_text("section_path\tname\tvalue\n/r/i\t/a\t1\n/r/i[2]\t/a\t9\n", encoding="utf-8")
    found = thresher("evaluate", run, "--gold", gold, "--gold-fields-only", "--json").json
    assert list(found["fields"]) == ["/a"]
    assert (found["micro"]["true_positives"], found["micro"]["precision"]) == (1, 0.5)


def test_a_node_inserted_into_a_document_is_one_fact_added(thresher_on: Thresher) -> None:
    old = run_of(thresher_on, DOCUMENT, "--path", "i")
    new = run_of(thresher_on, LONGER, "--path", "i")
    there = thresher_on("diff", old, new, "--json")
    assert there.code == 1
    assert (there.json["same_document"], there.json["same_reader"]) == (False, True)
    (added,) = there.json["differences"]
    assert (added["kind"], {value["new"]["value"] for value in added["values"]}) == ("added", {"0"})
    assert there.json["counts"]["moved"] == 3
    (lost,) = thresher_on("diff", new, old, "--json").json["differences"]
    assert lost["kind"] == "lost"
    shown = thresher_on("diff", old, new)
    assert shown.code == 1
    for part in ("+  ", "+a=0", "different documents, the same reader", "1 added, 0 lost, 0 changed", "3 the same in"):
        assert part in shown.out


def test_bad_input_is_said_in_one_sentence(thresher: Thresher) -> None:
    run = run_of(thresher, DOCUMENT, "--path", "i")
    gold = thresher.folder / "gold.jsonl"
    gold.write_text('{"section_path": "/other/node[1]", "fields": []}\n', encoding="utf-8")
    refused(thresher("evaluate", run, "--gold", gold), "names no node", run, "/other/node[1]", "/r/i[1]")
    refused(thresher("evaluate", "nope", "--gold", gold), "'nope'", "thresher runs")
    gold.write_text('{"section_path": "/r/i[1]", "fields": []}\n{', encoding="utf-8")
    refused(thresher("evaluate", run, "--gold", gold), "line 2, column 2")
    refused(thresher("diff", run, run, DATABASE_URL="sqlite:////no/such/folder/t.db"), "folder")


def test_trouble_is_never_told_as_a_difference(thresher: Thresher) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    run = run_of(thresher, DOCUMENT, "--path", "i")
    for options in (("--json",), ()):
        command = thresher._command("diff", run, run, *options)
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, cwd=thresher.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("Error: The output")
        assert len(done.stderr.splitlines()) == 1
