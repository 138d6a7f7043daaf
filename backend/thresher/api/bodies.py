"""Bodies of requests that are read as they are, within a bound."""

from __future__ import annotations

from fastapi import Request

from thresher.core.errors import BadInput, TooLarge
from thresher.operations.request_bodies import take_more


async def text_of(request: Request, most: int) -> str:
    """The body of a request as text, of ``most`` bytes at most.

    Raises:
        TooLarge: it is larger.
        BadInput: it is no UTF-8.
    """
    take_more(request.scope)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLarge(f"The body is larger than {most:,} bytes, the most that is taken here.")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"The body is not UTF-8 text (byte {error.start}).") from error
