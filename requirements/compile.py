"""Writes one lock file of this folder anew: versions and hashes, no addresses."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
INPUTS = {
    "runtime": ["pyproject.toml"],
    "dev": ["pyproject.toml", "--extra", "dev", "--extra", "otel", "-c", "requirements/runtime.lock"],
    "bootstrap": ["requirements/bootstrap.in"],
    "local": ["requirements/local.in", "--no-deps"],
    "peers": ["requirements/peers.in"],
}


def main(part: str) -> int:
    """Compiles the lock of one part; returns the exit code of uv."""
    options = ["--universal", "--generate-hashes", "--python-version", "3.11", "--quiet", "--upgrade"]
    named = ["--custom-compile-command", "make lock", "-o", f"requirements/{part}.lock"]
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "pip", "compile", *INPUTS[part], *options, *named]
    return subprocess.run(command, cwd=HERE.parent, check=False, stdout=subprocess.DEVNULL).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
