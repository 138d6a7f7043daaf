"""What every shape of a message can do, and the little that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from thresher.workflows.discovery.sample_messages.dice import Dice
from thresher.workflows.discovery.sample_messages.markup import Lines
from thresher.workflows.discovery.sample_messages.travel import SERVICES, ServiceKind

Members = Mapping[str, list[Lines]]
"""The members that one unit adds to the lists of a message, by the local name of their element."""

FILLER = "ServiceDefinition"
"""The members that fill a message up to the size wanted: nothing but a catalogue's length depends on their number."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a message grows by, a traveller of an order or an offer of a search: its cost and its members."""

    total: int
    members: Members


class Shape(Protocol):
    """How one version of one message is written."""

    def document(self, total: int) -> Lines:
        """The whole message, with ``markup.members`` where lists are; ``total`` is the sum of its units."""

    def units(self, dice: Dice, count: int, width: int) -> Iterator[Unit]:
        """Draws ``count`` units, whose ids hold ``width`` digits of the block."""

    def service_definition(self, number: int) -> Lines:
        """One member of the catalogue of services; any number will do."""


def amount(hundredths: int) -> str:
    """An amount as messages write it."""
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def clock(moment: datetime) -> str:
    """A time on the airport's clock, without a zone."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def service_kind(number: int) -> ServiceKind:
    """What the service with this number is; the first are those that travellers buy."""
    return SERVICES[number % len(SERVICES)]


def service_id(number: int) -> str:
    """The id of a service of the catalogue."""
    return f"SD{number + 1:03d}"
