"""A server with something to see on every page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from command import BUNDLED, Thresher
from server import RunningServer, running_server

from thresher.testing.model_server import RunningModelServer, running_model_server

DEFECTIVE = "SEG003"  # nodes with this text fail
SLOW = 1.5  # seconds that the model takes for a request of the run that goes on
LIES = 0.03  # share of fields that the document does not hold


@dataclass(frozen=True)
class Tour:
    """A server and the addresses of its pages, by the names of their pictures."""

    server: RunningServer
    pages: Mapping[str, str]


@contextmanager
def toured(thresher: Thresher) -> Iterator[Tour]:
    """Runs that have succeeded, failed in part, failed as a whole, and one that goes on."""
    with ExitStack() as stack:
        with running_model_server(seed=7, lie=LIES, fail_matching=DEFECTIVE, fail_status=400) as model:
            server = stack.enter_context(running_server(thresher, **_settings(model)))
            partial = server.upload(BUNDLED, BUNDLED.name, query={"wait": 60}).json()["run_id"]
            server.upload(BUNDLED.read_bytes()[:5000], "torn.xml", query={"wait": 60})
            server.upload(BUNDLED, "OrderViewRS_evening.xml", limit="20", query={"wait": 60})
        stack.enter_context(running_model_server(port=model.port, seed=8, latency=SLOW, jitter=0.4))
        live = server.upload(BUNDLED, "OrderViewRS_morning.xml").json()["run_id"]
        server.until(live, lambda run: run["nodes"]["succeeded"] >= 12)
        yield Tour(server, _pages(server, partial, live))


def _settings(model: RunningModelServer) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": model.base_url,
        "LLM_MODEL": "gpt-4o-mini",
        "CACHE_ANSWERS": "false",
        "PROCESSING_MODE": "parallel",
        "MAX_PARALLEL_NODES": "4",
        "MAX_RETRIES": "0",
        "REQUESTS_PER_MINUTE": "6000",
    }


def _pages(server: RunningServer, partial: str, live: str) -> Mapping[str, str]:
    source_id = server.run(partial)["source_id"]
    facts = f"/runs/{partial}/facts"
    unproved = _first_fact(server, f"{facts}?grounded=false")
    batch = _furnished(server)
    proved = _first_fact(server, f"{facts}?type=ServiceDefinition")
    return {
        "new-run": "/",
        "document": f"/documents/{source_id}",
        "runs": "/runs",
        "run-live": f"/runs/{live}",
        "run-partial": f"/runs/{partial}",
        "facts": facts,
        "fact": proved,
        "fact-unproved": unproved,
        "dead-letters": f"/runs/{partial}/dead-letters",
        "compare": f"/compare?old={partial}&new={live}",
        "dashboard": "/dashboard",
        "batches": "/batches",
        "batch": f"/batches/{batch}",
        "schedules": "/schedules",
        "notifications": "/notifications",
        "node-configurations": "/node-configurations",
        "node-configuration": "/node-configurations/1",
        "keys": "/keys",
        "sign-in": "/sign-in",
        "not-found": "/runs/unknown",
    }


def _furnished(server: RunningServer) -> str:
    """A schedule, a channel, a node configuration, and a batch, whose identifier is returned."""
    files = [("file", (f"orders-{number}.xml", f"<L><P>{number}</P></L>".encode())) for number in range(3)]
    batch = server.client.post("/api/v1/batch", files=[*files, ("file", ("notes.txt", b"none"))], data={"name": "week"})
    made = {
        "schedules": {"name": "working days", "expression": "30 6 * * MON-FRI", "urls": ["https://example.com/a.xml"]},
        "channels": {"name": "our-server", "kind": "webhook", "target": "https://receiver.invalid/hook"},
        "node-configurations": {"path": "DataLists/PaxList/Pax", "instructions": "Names as on the ticket."},
    }
    for noun, wanted in made.items():
        assert server.client.post(f"/api/v1/{noun}/", json=wanted).status_code == 201
    server.client.post("/api/v1/channels/our-server/test")
    batch_id: str = batch.json()["batch_id"]
    return batch_id


def _first_fact(server: RunningServer, address: str) -> str:
    found = re.search(r'href="(/runs/[a-z0-9]+/facts/[0-9]+)', server.client.get(address).text)
    assert found is not None, address
    return found[1]
