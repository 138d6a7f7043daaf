from __future__ import annotations

from pathlib import Path

import pytest

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.configurations import NodeConfiguration, applicable, load_configurations
from thresher.workflows.discovery.subtrees import Detection


def detected(message: str = "OrderViewRS", version: str = "19.2", sender: str = "XX") -> Detection:
    return Detection(message_root=message, spec_version=version, sender=sender)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nodes.yaml"


def test_a_file_says_paths_instructions_schemas_and_what_is_disabled(file: Path) -> None:
    file.write_text(
        "nodes:\n"
        "  - path: DataLists/PaxList/Pax\n"
        "    message: OrderViewRS\n"
        "    version: 19.2\n"
        "    instructions: One passenger.\n"
        "    schema: {type: object, properties: {id: {type: string}}}\n"
        "  - {path: Other, enabled: false}\n",
        encoding="utf-8",
    )
    first, second = load_configurations(file)
    assert (first.path, first.message, first.version, first.enabled) == (
        "DataLists/PaxList/Pax", "OrderViewRS", "19.2", True,
    )  # fmt: skip
    assert first.record_schema is not None
    assert second == NodeConfiguration(path="Other", enabled=False)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            "nodes:\n  - path: a\n    instrctions: x\n",
            ("line 3", "nodes[0].instrctions", "unknown key", "instructions"),
        ),
        ("nodes: []\nextra: 1\n", ("line 2", "extra", "unknown key", "known: nodes")),
        ("nodes:\n  - path: a\n    enabled: [1]\n", ("line 3", "nodes[0].enabled", "true or false")),
        ("nodes:\n  - path: a\n    instructions: 5\n", ("line 3", "nodes[0].instructions", "must be text")),
        ("nodes:\n  - path: a\n    version: 2019-02-01\n", ("line 3", "version", "quotes")),
        ("nodes:\n  - path: a\n    version: 2019-13-45\n", ("date",)),
        ("nodes:\n  - instructions: x\n", ("line 2", "nodes[0].path", "is missing")),
        ("nodes:\n  - path: a\n  - path: a\n", ("nodes[1]", "'a'", "second time")),
        ("nodes:\n  - path: a\n    path: b\n", ("line 3", "'path'", "twice")),
        ("nodes:\n  - path: 'a['\n", ("line 2", "nodes[0].path", "character")),
        ("nodes:\n  - path: a\n    schema: {type: objekt}\n", ("line 3", "schema", "/type", "objekt")),
        ("nodes:\n  - path: a\n    schema: {type: array}\n", ("line 3", "schema", "object")),
        ("nodes:\n  - path: a\n    schema: {$ref: 'http://127.0.0.1/x'}\n", ("line 3", "refers outside")),
        ("nodes:\n  - path: a\n    schema: {type: object, properties: {b: {pattern: '['}}}\n", ("pattern",)),
        ("nodes:\n  - a: b: c\n", ("not valid YAML", "line 2")),
        ("nodes:\n\t- path: a\n", ("not valid YAML", "line 2")),
        ("a: 1\n---\nb: 1\n", ("not valid YAML",)),
        ("!!python/object/apply:os.system ['true']", ("not valid YAML", "line 1")),
        ("", ("must begin with nodes:",)),
        ("- a\n- b\n", ("must begin with nodes:",)),
        ("nodes: {}\n", ("line 1", "nodes", "must be a list")),
        ("nodes: []\n", ("at least one node",)),
        ('nodes:\n  - path: a\n    version: "1\\0"\n', ("line 3", "nodes[0].version", "character 2", "U+0000")),
        (
            'nodes:\n  - path: a\n    schema: {type: object, properties: {"\\ud800": {}}}\n',
            ("line 3", "nodes[0].schema", "U+D800"),
        ),
        ("nodes:\n  - path: a\n    schema: &s {type: object, properties: {b: *s}}\n", ("line 3", "Circular")),
        (
            "nodes:\n  - path: a\n    schema:\n      type: object\n      x0: &x0 [lol]\n"
            + "".join(f"      x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 40)),
            ("line 3", "schema", "more than 120,000 characters"),
        ),
        ("nodes: &n\n  - *n\n", ("nodes[0]", "must be a mapping")),
        ("[" * 5000, ("nested too deep",)),
        ("nodes: [1, 2, 3, 4, 5]\n", ("and 2 more",)),
        ("? [a]\n: 1\n", ("not valid YAML",)),
    ],
)
def test_an_unusable_file_is_refused_in_one_sentence_that_says_where(
    file: Path, content: str, parts: tuple[str, ...]
) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(BadConfiguration) as refusal:
        load_configurations(file)
    sentence = str(refusal.value)
    assert not [part for part in ("nodes.yaml", *parts) if part not in sentence], sentence
    assert "\n" not in sentence
    assert not sentence.endswith((".;", ".."))


def test_a_file_that_is_missing_a_folder_or_no_text_is_refused(file: Path) -> None:
    with pytest.raises(BadConfiguration, match="No such file"):
        load_configurations(file)
    with pytest.raises(BadConfiguration, match="Is a directory"):
        load_configurations(file.parent)
    file.write_bytes(b"nodes: \xff")
    with pytest.raises(BadConfiguration, match="not UTF-8 text \\(byte 7\\)"):
        load_configurations(file)


def test_the_most_specific_configuration_of_a_path_wins_then_the_first() -> None:
    anyone = NodeConfiguration(path="a", instructions="any")
    message = NodeConfiguration(path="a", message="OrderViewRS", instructions="message")
    exact = NodeConfiguration(path="a", message="OrderViewRS", version="19.2", sender="XX", instructions="exact")
    other = NodeConfiguration(path="a", message="OrderViewRS", version="21.3")
    elsewhere = NodeConfiguration(path="b")
    assert applicable([anyone, message, exact, other, elsewhere], detected()) == (exact, elsewhere)
    assert applicable([anyone, message, exact, other], detected(sender="YY")) == (message,)
    assert applicable([other], detected()) == ()


def test_a_null_inside_a_schema_survives_being_stored_with_the_run() -> None:
    schema = {"type": "object", "properties": {"a": {"const": None}}}
    stored = NodeConfiguration(path="a", schema=schema).model_dump(by_alias=True, exclude_none=True)
    assert NodeConfiguration.model_validate(stored).record_schema == schema
