"""What a document is: its message, version and sender, from its first elements; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thresher.workflows.discovery.subtrees.names import split_name
from thresher.workflows.discovery.subtrees.paths import NDC_PREFIX

_MESSAGE = re.compile(r"(?:[A-Za-z0-9]+_)?[A-Z][A-Za-z]+(?:RQ|RS|Notif)")
_NAMESPACE_VERSION = re.compile(r"/(?:20)?(1[5-9]|[2-3][0-9])\.([0-9])(?=/|$)")
_VERSION = re.compile(r"\s*(?:IATA)?(?:20)?(1[5-9]|[2-3][0-9])\.([0-9])(?:\.[0-9]+)*\s*")
_CODE = re.compile(r"\s*([A-Z0-9]{2,3})\s*")
_NDC_NAMESPACES = ("iata.org/", "EASD")
_WRAPPERS = frozenset({"Envelope", "Body", "AppData"})
_BESIDE_THE_PAYLOAD = frozenset({"Header", "MessageInfo"})
_MAX_WRAPPERS = 5

# Lists and groups that only one version knows, where nothing else tells (facts of the IATA schemas).
_ONLY_IN = {
    "DatedMarketingSegmentList": "21.3",
    "DatedOperatingSegmentList": "21.3",
    "DatedOperatingLegList": "21.3",
    "PassengerList": "17.2",
    "FlightSegmentList": "17.2",
    "AirlineOffers": "17.2",
}
_SINCE_18_1 = frozenset({"PaxList", "PaxSegmentList", "CarrierOffers"})
_AIRLINE_OF_SENDER = frozenset({"AirlineID", "AirlineDesigCode"})
_OWNERS = frozenset({"Owner", "OwnerCode"})
TEXTS = _AIRLINE_OF_SENDER | _OWNERS | {"VersionNumber", "Version"}
"""Local names of the elements whose text a detector wants to see."""
_OWNED = frozenset({"Order", "Offer", "PricedOffer", "SelectedOffer"})
_LISTS = "DataLists"
TELLING = TEXTS | _ONLY_IN.keys() | _SINCE_18_1 | _OWNED | {_LISTS}
"""Local names of the elements whose start a detector wants to see once it has stopped looking for the message."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What a document is. ``spec_version`` ("19.2") and ``sender`` (an airline's code) are empty where unknown.

    ``message_root`` is the local name of the message within its wrappers, without ``IATA_``. ``namespace`` is
    that element's. ``is_ndc`` says whether it is, or is shaped like, an NDC message.
    """

    message_root: str
    spec_version: str = ""
    sender: str = ""
    namespace: str = ""
    is_ndc: bool = False


class Detector:
    """Gathers what is needed for a detection from elements as they start and from a few texts.

    While ``is_looking`` every element counts, afterwards those whose local names are ``TELLING``.
    """

    def __init__(self) -> None:
        self._root = ("", "")
        self._message: tuple[str, str] | None = None
        self.is_looking = True
        self._namespaces: set[str] = set()
        self._versions: dict[int, str] = {}  # by rank, the least counts
        self._senders: dict[int, str] = {}
        self._structure = ""
        self._has_new_lists = False
        self._is_ndc_shaped = False

    @property
    def knows_all(self) -> bool:
        """Whether nothing that follows can change the result: the document is no message."""
        return not self.is_looking and self._message is None

    def start(self, path: list[str], name: str, attributes: list[str]) -> None:
        """An element starts; ``path`` holds the local names from the root to it."""
        uri, local = split_name(name)
        if len(path) == 1:
            self._root = (uri, local)
        if self.is_looking:
            self._look_for_message(path, uri, local, attributes)
        if self._message is None:
            return
        self._note_structure(local)
        if local in _OWNED:
            self._note_sender(0 if local == "Order" else 2, _pairs(attributes).get("Owner", ""))

    def text(self, path: list[str], value: str) -> None:
        """The text of an element whose name is one of ``TEXTS``."""
        if self._message is None:
            return
        local, parent = path[-1], path[-2] if len(path) > 1 else ""
        if local in {"VersionNumber", "Version"}:
            if parent == "PayloadAttributes":
                self._note_version(1, value)
        elif local in _AIRLINE_OF_SENDER:
            if "Sender" in path:
                self._note_sender(1, value)
        else:
            self._note_sender(0 if parent == "Order" else 2, value)

    def result(self) -> Detection:
        """What is known by now."""
        uri, local = self._message or self._root
        is_ndc = self._message is not None and (self._is_official or self._is_ndc_shaped)
        if not is_ndc:
            return Detection(message_root=local, namespace=uri)
        return Detection(
            message_root=local.removeprefix(NDC_PREFIX),
            spec_version=self._version(local),
            sender=self._senders[min(self._senders)] if self._senders else "",
            namespace=uri,
            is_ndc=True,
        )

    @property
    def _is_official(self) -> bool:
        return any(mark in uri for uri in self._namespaces for mark in _NDC_NAMESPACES)

    def _version(self, local: str) -> str:
        if self._versions:
            return self._versions[min(self._versions)]
        if not self._is_official:
            return ""
        unprefixed = not local.startswith(NDC_PREFIX)
        return self._structure or ("18.1" if self._has_new_lists and unprefixed else "")

    def _look_for_message(self, path: list[str], uri: str, local: str, attributes: list[str]) -> None:
        """Finds the message: the root, or the first element within the wrappers around it."""
        around = path[:-1]
        if not _WRAPPERS.issuperset(around):
            return
        if _MESSAGE.fullmatch(local):
            self._message, self.is_looking = (uri, local), False
            self._note_namespace(uri)
            self._note_version(2, _pairs(attributes).get("Version", ""))
        elif local not in _WRAPPERS | _BESIDE_THE_PAYLOAD or len(path) > _MAX_WRAPPERS:
            self.is_looking = False

    def _note_structure(self, local: str) -> None:
        self._structure = self._structure or _ONLY_IN.get(local, "")
        self._has_new_lists = self._has_new_lists or local in _SINCE_18_1
        self._is_ndc_shaped = self._is_ndc_shaped or local == _LISTS

    def note_namespaces(self, uris: Iterable[str]) -> None:
        """Namespaces declared on the way to the message's own elements."""
        if self._message is not None and len(self._namespaces) < 16:
            self._namespaces.update(uris)

    def _note_namespace(self, uri: str) -> None:
        self._namespaces.add(uri)
        if any(mark in uri for mark in _NDC_NAMESPACES):
            found = _NAMESPACE_VERSION.search(uri)
            if found:
                self._versions.setdefault(0, f"{found[1]}.{found[2]}")

    def _note_version(self, rank: int, written: str) -> None:
        found = _VERSION.fullmatch(written)
        if found:
            self._versions.setdefault(rank, f"{found[1]}.{found[2]}")

    def _note_sender(self, rank: int, written: str) -> None:
        found = _CODE.fullmatch(written)
        if found:
            self._senders.setdefault(rank, found[1])


def _pairs(attributes: list[str]) -> Mapping[str, str]:
    return dict(zip(attributes[::2], attributes[1::2], strict=True))
