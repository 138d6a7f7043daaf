"""The flags of the model server."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of requests (0 to 1) that go wrong, each drawn on its own; ``lie`` is a share of fields.

    Of requests about several subtrees, ``forget`` is a share of the entries of an answer, ``swap`` of answers.
    """

    error_500: float = 0.0
    drop: float = 0.0
    hang: float = 0.0
    truncate: float = 0.0
    fence: float = 0.0
    prose: float = 0.0
    lie: float = 0.0
    html: float = 0.0
    forget: float = 0.0
    swap: float = 0.0
    slow: float = 0.0

    @property
    def any(self) -> bool:
        """Whether a request can go wrong at all; lies do not count, they are part of the answer."""
        per_request = (
            self.error_500,
            self.drop,
            self.hang,
            self.truncate,
            self.fence,
            self.prose,
            self.html,
            self.slow,
            self.forget,
            self.swap,
        )
        return max(per_request) > 0


@dataclass(frozen=True, slots=True)
class Limits:
    """A token bucket: ``rate`` requests per second (None: no limit), at most ``burst`` at once."""

    rate: float | None = None
    burst: int = 1
    headers: bool = False
    retry_after: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves. ``latency`` in seconds; ``jitter`` is the sigma of a lognormal factor of mean 1."""

    host: str = "127.0.0.1"
    port: int = 8089
    latency: float = 0.0
    jitter: float = 0.0
    limits: Limits = Limits()
    faults: Faults = Faults()
    unauthorized: bool = False
    api_key: str | None = None
    fail_matching: str | None = None
    fail_status: int = 500
    seed: int = 0
    json: bool = False
    until_stdin_closes: bool = False


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Reads the flags; unusable ones end the process with a sentence and code 2, as argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.rate is None and (given.rate_headers or given.retry_after or given.burst is not None):
        parser.error("--rate-headers, --retry-after and --burst describe a limit: give --rate too")
    burst = given.burst if given.burst is not None else max(1, int(given.rate or 1))
    return Options(
        host=given.host,
        port=given.port,
        latency=given.latency,
        jitter=given.jitter,
        limits=Limits(given.rate, burst, headers=given.rate_headers, retry_after=given.retry_after),
        faults=Faults(**{name: getattr(given, name) for name in Faults.__slots__}),
        unauthorized=given.unauthorized,
        api_key=given.api_key,
        fail_matching=given.fail_matching,
        fail_status=given.fail_status,
        seed=given.seed,
        json=given.json,
        until_stdin_closes=given.until_stdin_closes,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m thresher.testing.model_server",
        description="An OpenAI-compatible model server on loopback for tests and benchmarks.",
        allow_abbrev=False,
    )
    _add_address(parser)
    _add_time_and_limits(parser)
    _add_faults(parser)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="loopback only (127.0.0.1)")
    parser.add_argument("--port", type=_between(int, 0, 65_535), default=8089, help="0 picks a free one (8089)")
    parser.add_argument("--json", action="store_true", help="print the readiness line as one JSON object")
    parser.add_argument("--seed", type=int, default=0, help="what all draws are made from (0)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input reaches its end")


def _add_time_and_limits(parser: argparse.ArgumentParser) -> None:
    seconds, positive = _between(float, 0, 86_400), _between(float, 0.001, 1_000_000)
    parser.add_argument("--latency", type=seconds, default=0.0, metavar="SECONDS", help="time to an answer, mean (0)")
    parser.add_argument("--jitter", type=_between(float, 0, 5), default=0.0, metavar="SIGMA", help="lognormal sigma")
    parser.add_argument("--rate", type=positive, metavar="R", help="requests per second; over it: 429")
    parser.add_argument("--burst", type=_between(int, 1, 1_000_000), metavar="N", help="requests at once (R)")
    parser.add_argument("--rate-headers", action="store_true", help="send x-ratelimit-* with every answer")
    parser.add_argument("--retry-after", action="store_true", help="send Retry-After with 429s")


def _add_faults(parser: argparse.ArgumentParser) -> None:
    for name, meaning in _SHARES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=_between(float, 0, 1), default=0.0, metavar="P", help=meaning)
    parser.add_argument("--unauthorized", action="store_true", help="401 to all, or to those without --api-key")
    parser.add_argument("--api-key", metavar="K", help="the only key let in")
    parser.add_argument("--fail-matching", metavar="TEXT", help="subtrees that contain TEXT always fail")
    status = _between(int, 400, 599)
    parser.add_argument("--fail-status", type=status, default=500, metavar="N", help="the status they fail with (500)")


_SHARES = {
    "error_500": "share of requests answered with status 500",
    "drop": "share of requests whose connection is closed without an answer",
    "hang": "share of requests never answered",
    "truncate": "share of answers cut short, with finish_reason length",
    "fence": "share of answers within a code fence",
    "prose": "share of answers with prose before and after",
    "lie": "share of fields with a wrong value",
    "html": "share of requests answered with an HTML page and status 200",
    "forget": "share of entries left out of an answer about several subtrees",
    "swap": "share of answers about several subtrees in which two have each other's id",
    "slow": "share of requests that take ten times their latency",
}


def _between(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind.__name__} from {low} to {high}")
        return value

    return number


def _loopback(text: str) -> str:
    try:
        loopback = text == LOCALHOST or ipaddress.ip_address(text).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise argparse.ArgumentTypeError(f"{text!r} is no loopback address: this server is for this machine only")
    return text
