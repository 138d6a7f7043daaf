"""The shapes of 17.2: ids and keys as attributes, references singular or as space-separated lists, ``@Code``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thresher.workflows.discovery.sample_messages import edist_parts as parts
from thresher.workflows.discovery.sample_messages.dice import Dice
from thresher.workflows.discovery.sample_messages.markup import Lines, empty, leaf, members, node
from thresher.workflows.discovery.sample_messages.shapes import (
    FILLER,
    Members,
    Unit,
    amount,
    clock,
    service_id,
    service_kind,
)
from thresher.workflows.discovery.sample_messages.travel import (
    ISSUED,
    PRICE_CLASSES,
    SERVICES,
    SHOPPERS,
    Offer,
    Price,
    Segment,
    Traveller,
    draw_offers,
    draw_travellers,
)

OWNER = "ZZ"
NAMESPACE = "http://www.iata.org/IATA/EDIST/2017.2"


@dataclass(frozen=True, slots=True)
class Edist:
    """What orders and searches of 17.2 have in common."""

    currency: str

    def envelope(self, root: str, content: list[Lines]) -> Lines:
        """The message around its content."""
        document = node("Document", leaf("Name", "THRESHER SAMPLE"), leaf("ReferenceVersion", "1.0"))
        stamp = f"{clock(ISSUED)}Z"
        return node(root, document, empty("Success"), *content, xmlns=NAMESPACE, TimeStamp=stamp, Version="17.2")

    def data_lists(self, own: list[Lines], passengers: list[Lines]) -> Lines:
        """The lists that both messages have; ``passengers`` is what PassengerList holds."""
        return node(
            "DataLists",
            node("PassengerList", *passengers),
            *own,
            node("BaggageAllowanceList", *parts.allowances()),
            node("FlightSegmentList", members("FlightSegment")),
            node("FlightList", members("Flight")),
            node("OriginDestinationList", members("OriginDestination")),
            node("PriceClassList", *map(parts.price_class, PRICE_CLASSES)),
            node("ServiceDefinitionList", members(FILLER)),
        )

    def travel_members(self, unit: Traveller | Offer) -> dict[str, list[Lines]]:
        """The members of the lists about who flies where."""
        if not unit.leads:
            return {}
        segments = [segment for journey in unit.journeys for segment in journey.segments]
        return {
            "FlightSegment": [parts.flight_segment(segment, unit.price_class) for segment in segments],
            "Flight": list(map(parts.flight, unit.journeys)),
            "OriginDestination": list(map(parts.origin_destination, unit.journeys)),
        }

    def service_definition(self, number: int) -> Lines:
        """See ``Shape``."""
        kind = service_kind(number)
        link = f"https://www.example.com/services/{kind.code.lower()}/{number + 1:03d}.html"
        return node(
            "ServiceDefinition",
            leaf("Name", kind.name),
            node("Encoding", leaf("Code", kind.code)),
            *([leaf("BaggageAllowanceRef", kind.allowance)] if kind.allowance else []),
            parts.descriptions((kind.text, f"More at {link}")),
            ServiceDefinitionID=service_id(number),
            Owner=OWNER,
        )

    def money(self, name: str, hundredths: int) -> Lines:
        """An amount with its currency."""
        return leaf(name, amount(hundredths), Code=self.currency)

    def taxes(self, price: Price, *, itemised: bool = True) -> list[Lines]:
        """The sum of a price's taxes, and each by itself where ``itemised``; nothing where there are none."""
        if not price.taxes:
            return []
        each = [node("Tax", self.money("Amount", part), leaf("TaxCode", code)) for code, part in price.taxes]
        return [node("Taxes", self.money("Total", price.tax), *([node("Breakdown", *each)] if itemised else []))]


@dataclass(frozen=True, slots=True)
class EdistOrderView(Edist):
    """OrderViewRS: one order, one unit per passenger."""

    def document(self, total: int) -> Lines:
        """See ``Shape``."""
        order = node(
            "Order",
            node("TotalOrderPrice", self.money("SimpleCurrencyPrice", total)),
            node("Status", leaf("StatusCode", "OPENED")),
            node("OrderItems", members("OrderItem")),
            OrderID=f"{OWNER}SAMPLE1",
            Owner=OWNER,
        )
        lists = self.data_lists([node("ContactList", members("ContactInformation"))], [members("Passenger")])
        payments = node("Payments", members("Payment"))
        return self.envelope("OrderViewRS", [node("Response", order, payments, lists)])

    def units(self, dice: Dice, count: int, width: int) -> Iterator[Unit]:
        """See ``Shape``."""
        for unit in draw_travellers(dice, count, width):
            yield Unit(unit.total, self._members(unit))

    def _members(self, unit: Traveller) -> Members:
        return self.travel_members(unit) | {
            "OrderItem": [self._flight_item(unit), *self._extra_items(unit)],
            "ContactInformation": [parts.contact(unit)],
            "Passenger": [parts.passenger(unit)],
            "Payment": [self._payment(unit)],
        }

    def _flight_item(self, unit: Traveller) -> Lines:
        segments = [segment for journey in unit.journeys for segment in journey.segments]
        return node(
            "OrderItem",
            self._price_detail(unit.fare),
            *(self._flight_service(unit, place, segment) for place, segment in enumerate(segments, 1)),
            self._fare_detail(unit),
            OrderItemID=f"OI{unit.number}-FLT",
            Owner=OWNER,
        )

    def _flight_service(self, unit: Traveller, place: int, segment: Segment) -> Lines:
        return node(
            "Service",
            leaf("PassengerRef", f"PAX{unit.number}"),
            leaf("SegmentRef", segment.id),
            node("Status", leaf("StatusCode", "HK")),
            ServiceID=f"SVC{unit.number}-{place}",
        )

    def _extra_items(self, unit: Traveller) -> list[Lines]:
        if unit.extra is None:
            return []
        kind, first = SERVICES[unit.extra], unit.journeys[0].segments[0]
        service = node(
            "Service",
            leaf("PassengerRef", f"PAX{unit.number}"),
            leaf("ServiceDefinitionRef", service_id(unit.extra), SegmentRef=first.id),
            node("Status", leaf("StatusCode", "HK")),
            ServiceID=f"SVC{unit.number}-9",
        )
        identifier = f"OI{unit.number}-{kind.code}"
        return [node("OrderItem", self._price_detail(Price(kind.price)), service, OrderItemID=identifier, Owner=OWNER)]

    def _price_detail(self, price: Price) -> Lines:
        total = node("TotalAmount", self.money("SimpleCurrencyPrice", price.total))
        return node("PriceDetail", total, self.money("BaseAmount", price.base), *self.taxes(price))

    def _fare_detail(self, unit: Traveller) -> Lines:
        components = [parts.fare_component(unit.price_class, journey) for journey in unit.journeys]
        return node("FareDetail", leaf("PassengerRefs", f"PAX{unit.number}"), *components)

    def _payment(self, unit: Traveller) -> Lines:
        method = parts.card(unit) if unit.by_card else node("Cash", leaf("CashInd", "true"))
        return node(
            "Payment",
            leaf("Type", "CC" if unit.by_card else "CA"),
            node("Method", method),
            self.money("Amount", unit.total),
            PaymentID=f"PAY{unit.number}",
        )


@dataclass(frozen=True, slots=True)
class EdistAirShopping(Edist):
    """AirShoppingRS, without a Response: what two adults and a child could book, one unit per offer."""

    def document(self, total: int) -> Lines:
        """See ``Shape``. The sum of all offers means nothing in a search, and is not written."""
        del total
        search = node("ShoppingResponseID", leaf("Owner", OWNER), leaf("ResponseID", "201-sample-search-0001"))
        offers = node("OffersGroup", node("AirlineOffers", members("Offer")))
        shoppers = [node("Passenger", leaf("PTC", ptc), PassengerID=identifier) for identifier, ptc in SHOPPERS]
        return self.envelope("AirShoppingRS", [search, offers, self.data_lists([], shoppers)])

    def units(self, dice: Dice, count: int, width: int) -> Iterator[Unit]:
        """See ``Shape``."""
        for unit in draw_offers(dice, count, width):
            yield Unit(unit.total, self._members(unit))

    def _members(self, unit: Offer) -> Members:
        return self.travel_members(unit) | {"Offer": [self._offer(unit)]}

    def _offer(self, unit: Offer) -> Lines:
        flights = [
            leaf("FlightRef", journey.id, ODRef=f"OD-{journey.id}", PriceClassRef=unit.price_class.id)
            for journey in unit.journeys
        ]
        return node(
            "Offer",
            node("TimeLimits", empty("OfferExpiration", DateTime=clock(ISSUED.replace(hour=21)))),
            node("TotalPrice", node("DetailCurrencyPrice", self.money("Total", unit.total))),
            node("FlightsOverview", *flights),
            self._offer_item(unit, f"{unit.number}-1", "PAX1 PAX2", unit.adult.times(2)),
            self._offer_item(unit, f"{unit.number}-2", "PAX3", unit.child),
            node("BaggageAllowance", leaf("BaggageAllowanceRef", unit.price_class.allowance)),
            OfferID=f"OFR{unit.number}",
            Owner=OWNER,
        )

    def _offer_item(self, unit: Offer, number: str, passengers: str, paid: Price) -> Lines:
        flights = " ".join(journey.id for journey in unit.journeys)
        components = [parts.fare_component(unit.price_class, journey) for journey in unit.journeys[:1]]
        return node(
            "OfferItem",
            node(
                "TotalPriceDetail",
                node("TotalAmount", node("DetailCurrencyPrice", self.money("Total", paid.total))),
                self.money("BaseAmount", paid.base),
                *self.taxes(paid, itemised=False),
            ),
            node(
                "Service",
                leaf("PassengerRefs", passengers),
                leaf("FlightRefs", flights),
                ServiceID=f"SVC{number}",
            ),
            node("FareDetail", leaf("PassengerRefs", passengers), *components),
            OfferItemID=f"OFI{number}",
            MandatoryInd="true",
        )
