"""Requests to other people's web servers, at addresses that users give: bounded, and never into private networks.

What a name resolves to is looked at where the connection is made, for each address that is tried and each redirect: the
address that was looked at is the one that is connected to, whatever a name server says the next time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Event
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pycurl

from thresher.core.certificates import system_certificates
from thresher.core.errors import AddressForbidden, BadInput, PageRefused, PageUnreachable, ThresherError

MOST_REDIRECTS = 5
CONNECT_TIMEOUT = 10.0  # seconds
LONGEST_ADDRESS = 2_000  # characters
_MOST_OF_AN_ANSWER = 64 * 1024  # bytes of the answer to what was sent
_SCHEMES = frozenset({"http", "https"})
_PORTS = {"http": 80, "https": 443}
_TRACKING = frozenset({"fbclid", "gclid", "dclid", "msclkid", "mc_cid", "mc_eid", "igshid", "yclid", "_ga"})
_TOO_MUCH = -1  # less than was handed over: libcurl ends the transfer
_USER_AGENT: Final = f"Thresher/{version('thresher')}"
_BUSY = frozenset({408, 425, 429})  # besides 5xx: asking later may help
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))  # IPv4 within IPv6: RFC 6052, RFC 8215

Network = IPv4Network | IPv6Network


def check_address(url: str) -> None:
    """Refuses what is no address of a web page, or holds a user or a password, which lists would show.

    Raises:
        BadInput: says what is wrong.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise BadInput(f"{url[:200]!r} is no address of a document: {error}.") from error
    if len(url) > LONGEST_ADDRESS or any(character <= " " or character == "\x7f" for character in url):
        raise BadInput(f"{url[:200]!r} is no address of a document: it is too long, or has spaces in it.")
    if parts.scheme.lower() not in _SCHEMES or not host or port == 0:
        raise BadInput(
            f"{url[:200]!r} is no address of a document: it begins with http:// or https:// and names a host."
        )
    if parts.username is not None or parts.password is not None:
        raise BadInput(f"The address at {host} holds a user or a password: leave them out, lists would show them.")


def normalised(url: str) -> str:
    """What is equal for addresses of the same page.

    Case of the host, a port that goes without saying, a slash at the end, the fragment and what tells visitors apart
    make no difference.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    port = "" if parts.port in (None, _PORTS.get(scheme)) else f":{parts.port}"
    query = [pair for pair in parts.query.split("&") if pair and not _is_tracking(pair.partition("=")[0].lower())]
    return f"{scheme}://{host}{port}{parts.path.rstrip('/')}" + (f"?{'&'.join(query)}" if query else "")


def _is_tracking(name: str) -> bool:
    return name.startswith("utm_") or name in _TRACKING


def name_of(url: str) -> str:
    """What people call the document at an address: the end of its path, else its host."""
    parts = urlsplit(url)
    name = unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or "document"
    return "".join(max(character, " ") for character in name)[:255]


def parse_networks(text: str | None) -> tuple[Network, ...]:
    """Networks as the setting has them: ``127.0.0.0/8,10.1.0.0/16``."""
    return tuple(ip_network(part.strip()) for part in (text or "").split(",") if part.strip())


def is_reachable(address: str, allowed: Sequence[Network]) -> bool:
    """Whether a server at this IP address may be spoken to: it is public, or in one of the ``allowed`` networks."""
    found = _innermost(ip_address(address.partition("%")[0]))
    if any(found in network for network in allowed if network.version == found.version):
        return True
    return found.is_global and not found.is_multicast


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to in the end, where it stands for one."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _NAT64):
            return IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        return inner or address
    return address


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web server said to what was sent."""

    status: int
    text: str


class WebClient:
    """Fetches and sends, from any thread. Proxies are not used: behind one nobody knows where a name leads to."""

    def __init__(self, allowed: Sequence[Network] = (), timeout: float = 60.0) -> None:
        self._allowed = tuple(allowed)
        self._timeout = timeout  # seconds, for a whole transfer with its redirects
        self._is_stopping = Event()

    def stop(self) -> None:
        """Ends what is under way, within a second, and all that is asked for from now on."""
        self._is_stopping.set()

    def fetch(self, url: str, write: Callable[[bytes], None], max_bytes: int) -> None:
        """Hands the document at an address to ``write``, piece by piece.

        Raises:
            BadInput: it is no address.
            AddressForbidden: it leads into a private network.
            PageUnreachable: no answer for now. PageRefused: there is no such document, or it is too large.
        """
        check_address(url)
        transfer = _Transfer(self._bounds(max_bytes), write)
        transfer.follow()
        status = transfer.perform(url)
        if not 200 <= status < 300:
            raise _refusal(url, status)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends a body; redirects are not followed.

        Raises:
            AddressForbidden: the address leads into a private network.
            PageUnreachable: no answer.
        """
        check_address(url)
        pieces: list[bytes] = []
        transfer = _Transfer(self._bounds(_MOST_OF_AN_ANSWER), pieces.append)
        transfer.curl.setopt(pycurl.POST, 1)
        transfer.curl.setopt(pycurl.POSTFIELDSIZE, len(body))
        transfer.curl.setopt(pycurl.READFUNCTION, BytesIO(body).read)
        transfer.curl.setopt(pycurl.HTTPHEADER, [*(f"{name}: {value}" for name, value in headers.items()), "Expect:"])
        status = transfer.perform(url)
        return Answer(status, b"".join(pieces)[:500].decode("utf-8", "replace"))

    def _bounds(self, max_bytes: int) -> _Bounds:
        return _Bounds(self._allowed, self._timeout, max_bytes, self._is_stopping)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a transfer may do, and how long."""

    allowed: Sequence[Network]
    timeout: float  # seconds
    max_bytes: int
    is_stopping: Event


class _Transfer:
    """One request over a connection of its own."""

    def __init__(self, bounds: _Bounds, write: Callable[[bytes], None]) -> None:
        self._bounds = bounds
        self._write = write
        self._received = 0
        self._wants_documents = False
        self._is_beside = False  # what comes is a page that says why not, or where else
        self._forbidden: str | None = None
        self._failure: Exception | None = None
        curl = self.curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.USERAGENT, _USER_AGENT)
        curl.setopt(pycurl.ACCEPT_ENCODING, "")
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, round(min(CONNECT_TIMEOUT, bounds.timeout) * 1000))
        curl.setopt(pycurl.TIMEOUT_MS, max(1, round(bounds.timeout * 1000)))
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.NOPROGRESS, 0)
        curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: bounds.is_stopping.is_set())
        curl.setopt(pycurl.HEADERFUNCTION, self._receive_line)
        curl.setopt(pycurl.WRITEFUNCTION, self._receive)
        self._trust()

    def _trust(self) -> None:
        """Servers must have a certificate that the system vouches for."""
        curl = self.curl
        if (certificates := system_certificates()) is None:
            curl.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        else:
            curl.setopt(pycurl.CAINFO, certificates.file)
            curl.setopt(pycurl.CAPATH, certificates.folder)

    def follow(self) -> None:
        """Follows redirects to the document, and takes nothing but the document."""
        self._wants_documents = True
        self.curl.setopt(pycurl.FOLLOWLOCATION, 1)
        self.curl.setopt(pycurl.MAXREDIRS, MOST_REDIRECTS)

    def perform(self, url: str) -> int:
        """Sends, and returns the status of the last answer."""
        self.curl.setopt(pycurl.URL, url)
        try:
            self.curl.perform()
            status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        except pycurl.error as error:
            raise self._explained(url, error) from (self._failure or error)
        finally:
            self.curl.close()
        return status

    def _open_socket(self, _purpose: int, address: Any) -> Any:  # noqa: ANN401 # pycurl's own tuple, a socket or a number
        """Called with each address before it is connected to."""
        family, kind, protocol, place = address
        if family not in (socket.AF_INET, socket.AF_INET6) or not is_reachable(str(place[0]), self._bounds.allowed):
            self._forbidden = str(place[0])
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _receive_line(self, line: bytes) -> None:
        if line.startswith(b"HTTP/"):
            status = line.split(b" ", 2)[1:2]
            self._is_beside = self._wants_documents and not b"".join(status).startswith(b"2")

    def _receive(self, piece: bytes) -> int | None:
        if self._is_beside:
            return None
        self._received += len(piece)
        if self._received > self._bounds.max_bytes:
            return _TOO_MUCH
        try:
            self._write(piece)
        except Exception as error:  # noqa: BLE001 # it is raised again outside of libcurl
            self._failure = error
            return _TOO_MUCH
        return None

    def _explained(self, url: str, error: pycurl.error) -> Exception:
        number, message = error.args[0], " ".join(str(error.args[1]).split())[:200].rstrip(".")
        host = urlsplit(url).hostname
        if self._failure is not None:
            return self._failure
        if self._forbidden is not None and number == pycurl.E_COULDNT_CONNECT:
            return AddressForbidden(
                f"{host} leads to {self._forbidden}, an address of a private network: it is not spoken to. "
                "If it should be, name its network in ALLOWED_PRIVATE_NETWORKS."
            )
        if self._received > self._bounds.max_bytes:
            return PageRefused(f"{host} sends more than {self._bounds.max_bytes:,} bytes, the most that is taken.")
        if number == pycurl.E_OPERATION_TIMEDOUT:
            return PageUnreachable(f"{host} did not answer in time ({self._bounds.timeout:g} s).")
        if number in (pycurl.E_TOO_MANY_REDIRECTS, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT):
            return PageRefused(f"{host} leads nowhere: {message}.")
        return PageUnreachable(f"{host} cannot be reached: {message}.")


def _refusal(url: str, status: int) -> ThresherError:
    host = urlsplit(url).hostname
    if status in _BUSY or status >= 500:
        return PageUnreachable(f"{host} answers {status}: it cannot give the document for now.")
    return PageRefused(f"{host} answers {status}: it does not give the document. Check the address.")
