"""OpenAI, Azure OpenAI and every server that speaks OpenAI's chat completions.

The openai SDK prepares a request once: its authentication, its Azure and base-URL handling, its headers. Every call
then sends a body of its own with that request's address and headers over libcurl. That costs a small part of the CPU
of ``chat.completions.create`` (benchmarks/model_client.py) and leaves retries to the engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json

from thresher.core.errors import (
    AuthenticationFailed,
    ModelUnreachable,
    PermanentLLMError,
    ThresherError,
    TransientLLMError,
)
from thresher.core.limits import ReportedLimits
from thresher.core.logging import get_logger
from thresher.engine.work import Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.prices import Prices
from thresher.llm.providers.dialect import Dialect, SchemaMode
from thresher.llm.providers.preparation import AzureServer, OpenAIServer, Prepared, prepare_apart, prepare_here
from thresher.llm.providers.refusals import Refusal
from thresher.llm.providers.transport import CurlTransport, Response
from thresher.llm.rate_headers import read_rate_headers

log = get_logger(__name__)

CHECK_TIMEOUT = 5.0  # seconds
_MAX_ENVELOPES = 32

_OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True, slots=True)
class Connections:
    """How a client connects: ``workers`` connections are kept open; ``timeout`` in seconds bounds a whole request."""

    workers: int = 10
    timeout: float = 60.0


class OpenAIClient:
    """Asks a server that speaks chat completions. One per process, shared by all threads.

    ``fallbacks`` says, in the order they happened, what the server would not take and what is sent instead.
    ``leaves_machine`` is True whatever the address: a proxy on this machine may pass requests on.
    """

    leaves_machine = True
    takes_batches = True

    def __init__(
        self,
        model: str,
        server: OpenAIServer | AzureServer,
        *,
        connections: Connections = Connections(),
        prices: Prices | None = None,
    ) -> None:
        self.model = model
        self.provider = "azure" if isinstance(server, AzureServer) else "openai"
        self.fallbacks: tuple[str, ...] = ()
        self._timeout = connections.timeout
        self._prices = prices or Prices.load()
        self.price = self._prices.highest_of(model)  # of the dearest version: which one answers is seen from the answer
        prepared = _prepared(server)
        self._completions, self._models = prepared.completions, prepared.models
        self._address = self._completions.address
        self._dialect = _first_dialect(server, urlsplit(self._completions.url).hostname or "")
        self._adapting = threading.Lock()  # protects _dialect and fallbacks
        self._envelopes: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._transport = CurlTransport(connections.workers)

    @property
    def resource(self) -> str:
        """One limit for each server and model."""
        return f"{self.model} at {self._address}"

    def complete(self, request: ModelRequest) -> ModelReply:
        """Asks once; asks again only where the server refuses the form of the request and takes another.

        Raises: see ``ModelClient.complete``.
        """
        requests = 0
        while True:
            dialect = self._dialect
            requests += 1
            response = self._transport.send(self._completions, self._body(request, dialect), self._timeout)
            limits = read_rate_headers(response.headers)
            if response.status == 200:
                return self._reply(response, limits, requests)
            refusal = Refusal.of(response.status, response.body, limits)
            error = refusal.error(self._address, self.model)
            if isinstance(error, TransientLLMError) or not self._adapt(dialect, refusal):
                raise error

    def check(self) -> None:
        """Asks for the list of models, which costs nothing; a server without one passes.

        Raises: see ``ModelClient.check``.
        """
        try:
            response = self._transport.send_apart(self._models, b"", min(CHECK_TIMEOUT, self._timeout))
        except ThresherError as error:
            raise ModelUnreachable(f"{error} Is the base URL right, and is the server running?") from error
        if response.status in (401, 403):
            raise AuthenticationFailed(f"{self._address} refuses the key ({response.status}): check OPENAI_API_KEY.")
        if 300 <= response.status < 400:
            where = _host(response.header(b"location") or "")
            raise ModelUnreachable(f"{self._address} redirects to {where}: is OPENAI_BASE_URL right?")
        if response.status == 200 and response.is_html():
            raise ModelUnreachable(f"{self._address} answered HTML, not JSON: is OPENAI_BASE_URL right?")

    def close(self) -> None:
        """Closes all connections."""
        self._transport.close()

    def _body(self, request: ModelRequest, dialect: Dialect) -> bytes:
        constant = (request.schema, request.system, request.examples, request.max_output_tokens, request.temperature)
        key = (*constant, dialect)
        envelope = self._envelopes.get(key)
        if envelope is None:
            if len(self._envelopes) >= _MAX_ENVELOPES:
                self._envelopes.clear()
            envelope = self._envelopes[key] = dialect.envelope(self.model, request)
        opening, closing = envelope
        history = "".join(f", {json.dumps({'role': role, 'content': text})}" for role, text in request.history)
        return b"".join((opening, json.dumps(request.user).encode(), closing, history.encode(), b"]}"))

    def _adapt(self, refused: Dialect, refusal: Refusal) -> bool:
        """Whether another form of the request is worth sending."""
        with self._adapting:
            if self._dialect != refused:
                return True  # another thread has learned in the meantime
            adapted = refused.adapted_to(refusal)
            if adapted is None:
                return False
            self._dialect, change = adapted
            self.fallbacks += (f"{change}: {self._address} refused ({refusal.status}): {refusal.message}",)
        log.info("fallback", change=change, resource=self.resource, status=refusal.status)
        return True

    def _reply(self, response: Response, limits: ReportedLimits, requests: int) -> ModelReply:
        document = self._document(response, limits)
        choice = _first_choice(document["choices"])
        message = _mapping(choice.get("message"))
        model = document.get("model")
        model = model if isinstance(model, str) and model else self.model
        return ModelReply(
            text=_text(message.get("content")),
            finish_reason=str(choice.get("finish_reason") or ""),
            model=model,
            usage=self._usage(model, document.get("usage"), requests),
            request_id=response.header(b"x-request-id"),
            limits=limits,
            refusal=_text(message.get("refusal")) or None,
        )

    def _document(self, response: Response, limits: ReportedLimits) -> dict[str, Any]:
        try:
            document = from_json(response.body)
        except ValueError as error:
            what = "HTML" if response.is_html() else f"{len(response.body)} bytes of something else"
            raise TransientLLMError(f"{self._address} answered {what}, not JSON: is the base URL right?") from error
        if isinstance(document, dict) and isinstance(document.get("choices"), list):
            return document
        if isinstance(document, dict) and document.get("error"):
            raise self._error_in_disguise(document["error"], response, limits)
        raise PermanentLLMError(
            f'{self._address} answered JSON without "choices": does it speak OpenAI\'s chat completions?'
        )

    def _error_in_disguise(self, error: object, response: Response, limits: ReportedLimits) -> ThresherError:
        """Some gateways send an error with status 200 and the status in its body; without one it may pass."""
        code = _mapping(error).get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        return Refusal.of(status, response.body, limits).error(self._address, self.model)

    def _usage(self, model: str, reported: object, requests: int) -> Usage:
        usage = _mapping(reported)
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        cached = _count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
        price = self._prices.of(model) or self._prices.of(self.model)
        known = price is not None and (bool(usage) or price.input == price.output == 0)
        cost = price.cost(prompt, completion, cached) if price is not None and known else None
        return Usage(requests, prompt, completion, cached, cost)


def _prepared(server: OpenAIServer | AzureServer) -> Prepared:
    """The requests that the SDK prepares, without its memory, unless it is loaded already or must be.

    Raises:
        BadConfiguration: address or key cannot be used.
    """
    if "openai" in sys.modules:
        return prepare_here(server)
    try:
        return prepare_apart(server)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("sdk loaded here", error=type(error).__name__)
        return prepare_here(server)


def _host(location: str) -> str:
    """Scheme, host and port of where a redirect leads, without credentials and without query."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "no address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "another path"


def _first_dialect(server: OpenAIServer | AzureServer, host: str) -> Dialect:
    if isinstance(server, AzureServer):
        return Dialect(SchemaMode.STRICT, "max_tokens", checks_schemas=True)
    if host == _OPENAI_HOST:
        return Dialect(SchemaMode.STRICT, "max_completion_tokens", sends_cache_key=True, checks_schemas=True)
    return Dialect(SchemaMode.BOUNDED, "max_tokens")


def _first_choice(choices: list[Any]) -> Mapping[str, Any]:
    return _mapping(choices[0]) if choices else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _text(content: object) -> str:
    """The text of a message: a string, or, as some servers send it, a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))
