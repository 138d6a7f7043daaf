"""The whole of what OpenAPI promises, asked for by Schemathesis of a real server: routes of tomorrow, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import BUNDLED, Thresher
from server import running_server

SECONDS = 15  # on each database
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
SMALL = b"<PaxList><Pax><Id>P1</Id></Pax><Pax><Id>P2</Id></Pax></PaxList>"


@pytest.mark.timeout(300)
def test_the_server_does_what_openapi_says_whatever_is_asked(thresher_on: Thresher) -> None:
    log = thresher_on.folder / "log"  # nobody reads what the server says on stderr
    with running_server(thresher_on, LOG_FILE=str(log)) as server:
        for document in (BUNDLED, *[SMALL] * 5, SMALL[:-4]):
            server.until_ended(server.upload(document).json()["run_id"])
        tool = Path(sys.executable).with_name("schemathesis")
        done = subprocess.run(
            [
                *(tool, "run", f"{server.address}/openapi.json", "--max-time", str(SECONDS), "--no-color"),
                *("--checks", ",".join(CHECKS), "--continue-on-failure", "--suppress-health-check", "all"),
            ],
            cwd=thresher_on.folder,
            env={
                **os.environ,
                "FUZZED_SERVER": server.address,
                "SCHEMATHESIS_HOOKS": "openapi_hooks",
                "PYTHONPATH": str(Path(__file__).parent),
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        assert server.client.get("/health").status_code == 200
        assert "Unresolvable" not in done.stdout
