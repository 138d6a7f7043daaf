"""The command line, in a process that kills itself at a named point: ``dying.py POINT NTH COMMAND...``.

Or of something that it is about to ask about: ``dying.py of TEXT COMMAND...``.

Nothing of the product knows of this: the methods are wrapped from outside, then the real command runs.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from thresher.__main__ import main
from thresher.llm.providers.preparation import Template
from thresher.llm.providers.transport import CurlTransport, Response
from thresher.persistence.group_commit import Writer
from thresher.persistence.repositories.store import SqlStore

STEPS: dict[str, tuple[type, str]] = {
    "claim": (SqlStore, "claim"),
    "request": (CurlTransport, "send"),
    "finish": (SqlStore, "finish"),
    "commit": (Writer, "commit"),
}


def die() -> None:
    """As by ``kill -9``: no handler, no ``finally``, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(step: Callable[..., Any], nth: int, *, before: bool) -> Callable[..., Any]:
    """The same step, the ``nth`` call of which (from 1) is the last that this process begins, or ends."""
    calls = itertools.count(1)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        is_last = next(calls) == nth
        if is_last and before:
            die()
        result = step(*arguments, **named)
        if is_last:
            die()
        return result

    return wrapped


def dying_of(text: str) -> Callable[..., Any]:
    """Sends requests, but none that holds ``text``."""
    send, deadly = CurlTransport.send, text.encode()

    def wrapped(transport: CurlTransport, template: Template, body: bytes, timeout: float) -> Response:
        if deadly in body:
            die()
        return send(transport, template, body, timeout)

    return wrapped


if __name__ == "__main__":
    if sys.argv[1] == "of":
        CurlTransport.send = dying_of(sys.argv[2])  # type: ignore[method-assign]
    else:
        moment, name = sys.argv[1].split("-")  # such as before-claim
        owner, method = STEPS[name]
        setattr(owner, method, dying(getattr(owner, method), int(sys.argv[2]), before=moment == "before"))
    sys.argv[1:3] = []
    main()
