"""The main job through a real, small, often wrong model on this machine: what it makes up is caught."""

from __future__ import annotations

import importlib.util

import pytest
from command import BUNDLED, Thresher
from lxml import etree

pytestmark = [
    pytest.mark.local_model,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None, reason="the local model is not installed: make .venv/.local"
    ),
]


def values_at(section_path: str, path: str) -> list[str]:
    """What stands at a place of the bundled document, by lxml's own XPath: an oracle of its own."""
    steps = []
    for step in f"{section_path}/{path}".split("/"):
        name, _, counter = step.lstrip("@").partition("[")
        if name and name != ".":
            steps.append(f"{'@' if '@' in step else ''}*[local-name()='{name}']{'[' + counter if counter else ''}")
    found = etree.parse(BUNDLED).xpath("/" + "/".join(steps))
    texts = [node if isinstance(node, str) else node.xpath("string()") for node in found]
    return [" ".join(text.split()) for text in texts]


def test_a_real_model_reads_subtrees_and_every_value_it_made_up_is_marked(thresher: Thresher) -> None:
    options = ("--path", "ContactInfoList/ContactInfo", "--limit", "3", "--provider", "local", "--workers", "1")
    done = thresher("discover", BUNDLED, *options, "--json", timeout=500)
    assert done.code == 0, done.err
    result = done.json
    assert (result["provider"], result["subtrees_processed"], result["cost_usd"]) == ("local", 3, 0)
    assert result["requests"] >= 3
    assert result["tokens"] > 0
    fields = [
        (row["section_path"], field)
        for row in thresher("facts", result["run_id"], "--include-ungrounded").rows
        for field in row["fields"]
    ]
    assert len(fields) == result["fields_total"] > 0
    for section_path, field in fields:
        stands_there = " ".join(field["value"].split()) in values_at(section_path, field["path"])
        assert field["grounded"] == stands_there, (section_path, field)
    assert sum(field["grounded"] for _, field in fields) == result["fields_grounded"]
