"""Requests as the openai SDK prepares them: its authentication, its Azure and base-URL handling, its headers.

A process needs two of them, once. Loading the SDK for that takes 17 MB of memory that is never given back, so it is
loaded in a process of its own, which tells what it prepared and ends (docs/decisions/0006-libcurl.md).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from thresher.core.errors import BadConfiguration

if TYPE_CHECKING:
    import httpx2
    import openai

PATIENCE = 60.0  # seconds for the other process; importing the SDK takes about one
_OF_THE_TRANSPORT = frozenset({"host", "content-length", "accept-encoding", "connection", "proxy-authorization"})
_NO_KEY = "no-key"  # the SDK insists on one; servers without authentication ignore it


@dataclass(frozen=True, slots=True)
class OpenAIServer:
    """OpenAI itself, or any compatible server by ``base_url``, which may need no key."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class AzureServer:
    """A deployment at Azure OpenAI."""

    endpoint: str
    api_key: str = field(repr=False)
    deployment: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Template:
    """A request to be sent again and again. ``address`` is what a person recognises: no path, no credentials."""

    method: str
    url: str = field(repr=False)
    headers: tuple[str, ...] = field(repr=False)  # "Name: value"; they hold the key
    address: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The requests for completions and for the list of models."""

    completions: Template
    models: Template


def prepare_apart(server: OpenAIServer | AzureServer) -> Prepared:
    """Has the SDK prepare them in a process of its own. The key goes there by its standard input.

    Raises:
        BadConfiguration: address or key cannot be used.
        OSError, ValueError, subprocess.SubprocessError: there can be no such process, or it did not succeed.
    """
    ended = subprocess.run(  # noqa: S603 # this very interpreter and module
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps({type(server).__name__: asdict(server)}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    told = json.loads(ended.stdout)
    if "refused" in told:
        raise BadConfiguration(told["refused"])
    return Prepared(_told(told["completions"]), _told(told["models"]))


def prepare_here(server: OpenAIServer | AzureServer) -> Prepared:
    """Has the SDK prepare them in this process, without sending them.

    Raises:
        BadConfiguration: address or key cannot be used.
    """
    import httpx2  # noqa: PLC0415  # as the SDK itself

    prepared: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        prepared.append(request)
        return httpx2.Response(200, json={})

    with httpx2.Client(transport=httpx2.MockTransport(keep)) as capture:
        sdk = _sdk_client(server, capture)
        try:
            sdk.post("/chat/completions", content=b"{}", cast_to=httpx2.Response)
            sdk.get("/models", cast_to=httpx2.Response)
        except Exception as error:
            raise BadConfiguration("The model's address or key holds characters that HTTP cannot send.") from error
    return Prepared(*(_template(request) for request in prepared))


def _template(request: httpx2.Request) -> Template:
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
    headers = (f"{name}: {value}" for name, value in named if name.lower() not in _OF_THE_TRANSPORT)
    return Template(request.method, str(request.url), tuple(headers), _address(request.url))


def _told(template: Mapping[str, Any]) -> Template:
    return Template(template["method"], template["url"], tuple(template["headers"]), template["address"])


def _sdk_client(server: OpenAIServer | AzureServer, http: httpx2.Client) -> openai.OpenAI:
    import openai  # noqa: PLC0415  # costs 1 s and 17 MB

    if isinstance(server, AzureServer):
        _check_address(server.endpoint, "AZURE_OPENAI_ENDPOINT")
        return openai.AzureOpenAI(
            azure_endpoint=server.endpoint,
            azure_deployment=server.deployment,
            api_version=server.api_version,
            api_key=_sendable(server.api_key, "AZURE_OPENAI_API_KEY"),
            max_retries=0,
            http_client=http,
        )
    if server.base_url is not None:
        _check_address(server.base_url, "OPENAI_BASE_URL")
    elif not server.api_key:
        raise BadConfiguration("OPENAI_API_KEY is not set: set it, or OPENAI_BASE_URL for a server that needs no key.")
    key = _sendable(server.api_key, "OPENAI_API_KEY") if server.api_key else _NO_KEY
    return openai.OpenAI(api_key=key, base_url=server.base_url, max_retries=0, http_client=http)


def _sendable(key: str, variable: str) -> str:
    """A key without the newline that files end in."""
    key = key.strip()
    if not (key and key.isascii() and key.isprintable()):
        raise BadConfiguration(f"{variable} is empty or holds characters that no key has.")
    return key


def _check_address(address: str, variable: str) -> None:
    import httpx2  # noqa: PLC0415  # as the SDK itself

    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise BadConfiguration(f"{variable} is no address: {error}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise BadConfiguration(f"{variable} must start with http:// or https:// and name a host.")


def _address(url: httpx2.URL) -> str:
    """Scheme, host and port, without credentials and without query."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}"


def main() -> None:
    """The process of its own: reads a server, writes what was prepared for it or why it was refused."""
    ((kind, values),) = json.load(sys.stdin).items()
    server = AzureServer(**values) if kind == AzureServer.__name__ else OpenAIServer(**values)
    try:
        told: Mapping[str, object] = asdict(prepare_here(server))
    except BadConfiguration as error:
        told = {"refused": str(error)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
