"""Events, metrics and attributes of spans are those of the code."""

from __future__ import annotations

import ast
import re

from pages import ROOT, code, rows, section
from prometheus_client import CollectorRegistry

from thresher.engine.gate import Resources
from thresher.integrations.metrics import Metrics

PAGE = "docs/reference/observability.md"
SOURCES = sorted((ROOT / "backend" / "thresher").rglob("*.py"))
LEVELS = {"debug", "info", "warning", "error", "exception", "log"}
IN_TABLES = {"circuit opened", "circuit half-open", "circuit closed", "concurrency lowered", "concurrency raised"}
BY_STATE = {"run started", "run resumed", "run finished"}  # the level or the name is chosen beside the call
PYTHON_S_OWN = ("process_", "python_")


def logged() -> set[str]:
    """The literal events that the code logs."""
    found: set[str] = set()
    for source in SOURCES:
        for call in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS:
                first = next(iter(call.args[call.func.attr == "log" :]), None)
                is_ours = ast.unparse(call.func.value) in {"log", "get_logger(record.name)"}
                if is_ours and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
    return found


def documented(heading: str) -> dict[str, list[str]]:
    return {code(cells[0])[0]: cells[1:] for cells in rows(section(PAGE, heading))}


def test_every_event_is_documented_and_no_other() -> None:
    assert set(documented("Events")) == logged() | IN_TABLES | BY_STATE


def test_events_are_short_lower_case_names() -> None:
    assert all(re.fullmatch(r"[a-z][a-z -]{2,28}", event) for event in documented("Events"))


def test_every_metric_is_documented_with_its_kind_and_labels() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    resources = Resources()
    resources.gate("m")
    metrics.watch(resources, lambda: 0)
    found = {}
    labels = {name: collector._labelnames for collector, names in registry._collector_to_names.items() for name in names
              if hasattr(collector, "_labelnames")}  # fmt: skip
    for family in registry.collect():
        if not family.name.startswith(PYTHON_S_OWN):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            of_samples = next((tuple(sample.labels) for sample in family.samples), ())
            found[name] = (family.type, sorted(labels.get(name, of_samples)))
    told = {name: (cells[0], sorted(code(cells[1]))) for name, cells in documented("Metrics").items()}
    assert told == found


def test_every_attribute_of_spans_is_documented() -> None:
    source = (ROOT / "backend/thresher/integrations/tracing.py").read_text("utf-8")
    attributes = set(re.findall(r'"((?:thresher|gen_ai)\.[a-z_.]+)"', source))
    told = {name for cells in documented("Spans").values() for name in code(cells[0])}
    assert told == attributes
