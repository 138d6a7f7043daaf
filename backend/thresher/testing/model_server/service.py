"""The service: which request gets which answer, and when."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest

from pydantic_core import from_json, to_json

from thresher.testing.model_server.answers import Answer, Answers, spoiled
from thresher.testing.model_server.faults import Draw, Fate, Lottery
from thresher.testing.model_server.hold import Hold
from thresher.testing.model_server.http import Connection, Reply, Request
from thresher.testing.model_server.options import Options
from thresher.testing.model_server.prompt import UnusableRequest
from thresher.testing.model_server.rate import Admission, Bucket
from thresher.testing.model_server.statistics import Statistics, SubtreeRecord

MODEL = "thresher-test-model"
LATE = 1.0  # seconds after the first request: by then a client may know the limit

_HTML = b"<!doctype html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"


@dataclass(frozen=True, slots=True)
class _Case:
    """One request for a completion on its way."""

    number: int  # among all since the start or the last reset, from 1
    answer: Answer
    records: Sequence[SubtreeRecord]  # of each subtree that it asks about
    admission: Admission


class ModelService:
    """Answers chat completions, and the questions about the server itself. Used by one event loop."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self._options = options
        self._loop = loop
        self._lottery = Lottery(options)
        self._answers = Answers(options, self._lottery)
        self._bucket = Bucket(options.limits, loop.time())
        self._closed_until = 0.0  # of the loop's clock: what the last Retry-After asked for
        self._first_at = math.inf  # of the loop's clock: when the first completion was asked for
        self._statistics = Statistics()
        self._hold = Hold()
        self._routes: dict[str, tuple[str, Callable[[], Reply]]] = {
            "/health": ("GET", lambda: _json({"status": "ok"})),
            "/stats": ("GET", lambda: _json({**self._statistics.report(), "held": len(self._hold)})),
            "/reset": ("POST", self._reset),
            "/release": ("POST", lambda: _json({"released": self._hold.release()})),
        }
        self._orders = {"/limit": self._change_limit, "/hold": self._begin_hold}

    def connected(self) -> None:
        """A client has connected."""
        self._statistics.connected()

    def disconnected(self) -> None:
        """A client has gone."""
        self._statistics.disconnected()

    def handle(self, request: Request, connection: Connection) -> None:
        """Answers a request now or later, or never, as the options say."""
        if request.path in self._orders and request.method == "POST":
            connection.reply(self._orders[request.path](request.body))
        elif request.path.endswith("/chat/completions"):
            if request.method != "POST":
                connection.reply(_error(405, "Use POST."))
            else:
                self._complete(request, connection)
        else:
            connection.reply(self._about(request))

    def _about(self, request: Request) -> Reply:
        is_models = request.path.endswith("/models")
        if not is_models and request.path not in self._routes:
            return _error(404, f"Unknown path {request.path}.")
        method, answer = ("GET", _models) if is_models else self._routes[request.path]
        if request.method != method:
            return _error(405, f"Use {method}.")
        return _UNAUTHORIZED if is_models and not self._lets_in(request) else answer()

    def _reset(self) -> Reply:
        self._statistics.reset()
        self._bucket = Bucket(self._options.limits, self._loop.time())
        self._closed_until = 0.0
        self._first_at = math.inf
        return _json({"status": "reset"})

    def _change_limit(self, body: bytes) -> Reply:
        """Another rate limit from now on, for a server that was started with one."""
        try:
            wanted = from_json(body)
            rate = float(wanted["rate"])
            burst = int(wanted.get("burst", max(1, int(rate))))
        except (ValueError, TypeError, KeyError, AttributeError):
            return _error(400, 'Send {"rate": R, "burst": N}.')
        if self._options.limits.rate is None or rate <= 0 or burst < 1:
            return _error(400, "Start the server with --rate, and send a rate and a burst above 0.")
        self._bucket.change(rate, burst, self._loop.time())
        return _json({"rate": rate, "burst": burst})

    def _begin_hold(self, body: bytes) -> Reply:
        """Keeps back what is not answered yet, the first so many requests excepted."""
        try:
            after = int(from_json(body)["after"])
        except (ValueError, TypeError, KeyError):
            after = -1
        if after < 0:
            return _error(400, 'Send {"after": N}, N from 0.')
        return _json({"after": after, "released": self._hold.begin(after)})

    def _lets_in(self, request: Request) -> bool:
        options = self._options
        if options.api_key is not None:
            return compare_digest(request.key.encode(), options.api_key.encode())
        return not options.unauthorized

    def _complete(self, request: Request, connection: Connection) -> None:
        totals = self._statistics.totals
        totals["requests"] += 1
        if not self._lets_in(request):
            totals["unauthorized"] += 1
            connection.reply(_UNAUTHORIZED)
            return
        try:
            answer = self._answers.of(request.body)
        except UnusableRequest as error:
            totals["bad_requests"] += 1
            connection.reply(_error(400, f"Invalid request: {error}."))
            return
        now = self._loop.time()
        self._first_at = min(self._first_at, now)
        totals["too_early"] += now < self._closed_until
        case = _Case(totals["requests"], answer, self._statistics.arrived(answer), self._bucket.admit(now))
        if case.admission.allowed:
            self._work(case, connection)
        else:
            connection.reply(self._refused(case, now))

    def _refused(self, case: _Case, now: float) -> Reply:
        for record in case.records:
            record.rate_limited += 1
        self._statistics.totals["rate_limited"] += 1
        self._statistics.totals["rate_limited_late"] += now > self._first_at + LATE
        if self._options.limits.retry_after:
            self._closed_until = now + case.admission.wait
        reply = _error(429, "Rate limit reached for requests.", "rate_limit_exceeded")
        return Reply(reply.status, reply.body, headers=case.admission.headers)

    def _work(self, case: _Case, connection: Connection) -> None:
        """Keeps a request for its latency, then lets its fate happen; the client may leave before."""
        asked = max(record.requests for record in case.records)
        draw = self._lottery.draw(case.answer.key, asked, len(case.records))
        failing = self._is_failing(case.answer)
        self._statistics.totals["slow"] += draw.slow
        if not failing and draw.fate is not Fate.ERROR_500:
            self._statistics.paid(case.records, case.answer)
        self._statistics.entered()
        if draw.fate is Fate.HANG and not failing:
            self._statistics.totals["hang"] += 1
            connection.on_lost = partial(self._abandon, None)
        elif draw.latency > 0:
            timer = self._loop.call_later(draw.latency, self._due, case, draw, connection)
            connection.on_lost = partial(self._abandon, timer.cancel)
        else:
            self._due(case, draw, connection)

    def _due(self, case: _Case, draw: Draw, connection: Connection) -> None:
        """The latency has passed."""
        if self._hold.keeps(case.number):
            self._hold.park(connection, case.number, partial(self._end, case, draw, connection))
            connection.on_lost = partial(self._abandon, partial(self._hold.drop, connection))
        else:
            self._end(case, draw, connection)

    def _abandon(self, forget: Callable[[], None] | None) -> None:
        if forget is not None:
            forget()
        self._statistics.left()
        self._statistics.totals["abandoned"] += 1

    def _is_failing(self, answer: Answer) -> bool:
        text = self._options.fail_matching
        return text is not None and text in answer.subtree

    def _end(self, case: _Case, draw: Draw, connection: Connection) -> None:
        totals = self._statistics.totals
        self._statistics.left()
        if self._is_failing(case.answer):
            totals["failed_matching"] += 1
            reply = _error(self._options.fail_status, "This subtree always fails.")
        elif draw.fate is Fate.ANSWER:
            reply = Reply(200, self._body(case, draw))
        else:
            totals[draw.fate.value] += 1
            if draw.fate is Fate.DROP:
                connection.abort()
                return
            reply = Reply(200, _HTML, "text/html") if draw.fate is Fate.HTML else _error(500, "Drawn by the seed.")
        connection.reply(Reply(reply.status, reply.body, reply.content_type, self._headers(case)))

    def _headers(self, case: _Case) -> bytes:
        return b"x-request-id: req_%d\r\n%b" % (self._statistics.totals["requests"], case.admission.headers)

    def _body(self, case: _Case, draw: Draw) -> bytes:
        totals = self._statistics.totals
        totals["truncate"] += draw.cut < 1.0
        totals["fence"] += draw.fenced
        totals["prose"] += draw.prose
        sent = range(len(case.records)) if draw.order is None else [entry for entry, _ in draw.order]
        totals["forget"] += len(case.records) - len(sent)
        totals["swap"] += draw.order is not None and any(entry != under for entry, under in draw.order)
        if draw.cut == 1.0:
            self._statistics.answered(case.records, case.answer, sent)
        if draw.cut == 1.0 and draw.order is None and not draw.fenced and not draw.prose:
            return case.answer.body
        return spoiled(case.answer, draw)


def _models() -> Reply:
    model = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "thresher"}
    return _json({"object": "list", "data": [model]})


def _json(value: object) -> Reply:
    return Reply(200, to_json(value))


def _error(status: int, message: str, code: str | None = None) -> Reply:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return Reply(status, to_json({"error": {"message": message, "type": kind, "param": None, "code": code}}))


_UNAUTHORIZED = _error(401, "Incorrect API key provided.", "invalid_api_key")
