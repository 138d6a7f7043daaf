"""CPU per item at zero latency: Thresher with everything included, over the openai SDK's ``create`` alone."""

from __future__ import annotations

from pathlib import Path

from documents import PATH, write_orders
from measurement import Row, Scale, folder

from thresher.testing.model_server import running_model_server

WORKERS = 10


def measure(scale: Scale) -> list[Row]:
    """Milliseconds of user and system time per item, each way once per round, against one server.

    Thresher's is the slope between a short and a long run of the real command (so that start and imports cancel
    out); the SDK's is that of its threads alone, without its import and without making the prompts.
    """
    short, items = scale.pick(250, 50), scale.pick(2_000, 250)
    ours, theirs = [], []
    with running_model_server() as server, folder(OPENAI_BASE_URL=server.base_url) as place:
        few, many = place.path / "few.xml", place.path / "many.xml"
        write_orders(few, short)
        write_orders(many, short + items)
        for _ in range(scale.rounds):
            ours.append((_discover(server.base_url, many) - _discover(server.base_url, few)) / items * 1000)
            theirs.append(place.python("sdk_threads.py", server.base_url, few, str(items)).json["cpu_ms_per_item"])
        stages = place.python("stages.py", server.base_url, many).json
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        Row(f"CPU per item, Thresher, {WORKERS} workers", ours, "ms"),
        Row(f"CPU per item, openai SDK's create alone, {WORKERS} threads", theirs, "ms"),
        Row("CPU per item, Thresher over SDK", ratios, "x", at_most=0.6),
        *(Row(f"  of which {stage}", [value], "ms") for stage, value in stages.items()),
    ]


def _discover(base_url: str, document: Path) -> float:
    """Seconds of CPU of a whole process."""
    with folder(OPENAI_BASE_URL=base_url) as place:
        options = ("--path", PATH, "--workers", str(WORKERS), "--json", "--quiet")
        return place.thresher("discover", document, *options).cpu
