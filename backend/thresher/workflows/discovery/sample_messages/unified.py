"""The shapes of 19.2 and 21.3: ``IATA_`` roots, ids as elements named XxxID, references as XxxRefID."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thresher.workflows.discovery.sample_messages import unified_parts as parts
from thresher.workflows.discovery.sample_messages.dice import Dice
from thresher.workflows.discovery.sample_messages.markup import Lines, leaf, leaves, members, node, prefixed
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
    Journey,
    Offer,
    Price,
    Segment,
    Traveller,
    draw_offers,
    draw_travellers,
)

OWNER = "ZZ"
EASD = "http://www.iata.org/IATA/2015/EASD/00/IATA_OffersAndOrders"
TAX_NAMES = {"YQ": "Carrier imposed charge", "XT": "Combined taxes", "UB": "Passenger service charge"}


@dataclass(frozen=True, slots=True)
class Unified:
    """What orders and searches of 19.2 and 21.3 have in common.

    19.2 has one namespace per message; 21.3 has one for the message's own elements and one for all below them, and
    parts a segment into what is marketed, what is operated and the leg that is flown.
    """

    version: str
    currency: str

    @property
    def newer(self) -> bool:
        """21.3 rather than 19.2."""
        return self.version == "21.3"

    def envelope(self, root: str, response: list[Lines]) -> Lines:
        """The message around the children of its Response."""
        if not self.newer:
            attributes = {"xmlns": f"http://www.iata.org/IATA/2015/00/2019.2/{root}"}
            children = [node("Response", *response), parts.message_doc(), parts.payload("2019.2")]
            return node(root, *children, **attributes)
        children = [parts.distribution_chain(OWNER), parts.payload("21.3"), node("Response", *response)]
        return node(
            root, *map(parts.common, children), **{"xmlns": f"{EASD}Message", "xmlns:cns": f"{EASD}CommonTypes"}
        )

    def data_lists(self, own: list[Lines], pax: list[Lines]) -> Lines:
        """The lists that both messages have, the message's ``own`` among them; ``pax`` is what PaxList holds."""
        dated = ("DatedMarketingSegment", "DatedOperatingLeg", "DatedOperatingSegment") if self.newer else ()
        return node(
            "DataLists",
            node("BaggageAllowanceList", *parts.allowances()),
            *own,
            *(node(f"{name}List", members(name)) for name in dated),
            node("OriginDestList", members("OriginDest")),
            node("PaxJourneyList", members("PaxJourney")),
            node("PaxList", *pax),
            node("PaxSegmentList", members("PaxSegment")),
            node("PriceClassList", *map(parts.price_class, PRICE_CLASSES)),
            node("ServiceDefinitionList", members(FILLER)),
        )

    def travel_members(self, journeys: tuple[Journey, ...], booking_class: str) -> dict[str, list[Lines]]:
        """The members of the lists about who flies where."""
        segments = [segment for journey in journeys for segment in journey.segments]
        lists = {
            "OriginDest": list(map(parts.origin_dest, journeys)),
            "PaxJourney": list(map(parts.pax_journey, journeys)),
        }
        if not self.newer:
            return lists | {"PaxSegment": [parts.pax_segment(segment, booking_class) for segment in segments]}
        return lists | {
            "DatedMarketingSegment": list(map(parts.marketing_segment, segments)),
            "DatedOperatingLeg": [parts.operating_leg(segment, f"LEG-{segment.id}") for segment in segments],
            "DatedOperatingSegment": list(map(parts.operating_segment, segments)),
            "PaxSegment": [parts.linked_segment(segment, booking_class) for segment in segments],
        }

    def service_definition(self, number: int) -> Lines:
        """See ``Shape``."""
        kind = service_kind(number)
        lines = node(
            "ServiceDefinition",
            node("Desc", leaf("DescText", kind.text)),
            node("Desc", leaf("URL", f"https://www.example.com/services/{kind.code.lower()}/{number + 1:03d}.html")),
            leaf("Name", kind.name),
            leaf("OwnerCode", OWNER),
            leaf("ServiceCode", kind.code),
            *parts.included_baggage("ServiceDefinitionAssociation", kind.allowance),
            leaf("ServiceDefinitionID", service_id(number)),
        )
        return self.spelled(lines)

    def spelled(self, lines: Lines) -> Lines:
        """The lines with the prefix that the version gives to elements below the message's own."""
        return prefixed(lines, "cns:") if self.newer else lines

    def money(self, name: str, hundredths: int) -> Lines:
        """An amount with its currency."""
        return leaf(name, amount(hundredths), CurCode=self.currency)

    def price(self, name: str, price: Price, *, itemised: bool = True) -> Lines:
        """A price that adds up: base, taxes (each by itself where ``itemised``), total."""
        taxes = [self._tax(code, part) for code, part in price.taxes] if itemised else []
        summary = [node("TaxSummary", *taxes, self.money("TotalTaxAmount", price.tax))] if price.taxes else []
        return node(name, self.money("BaseAmount", price.base), *summary, self.money("TotalAmount", price.total))

    def _tax(self, code: str, part: int) -> Lines:
        return node("Tax", self.money("Amount", part), leaf("DescText", TAX_NAMES[code]), leaf("TaxCode", code))


@dataclass(frozen=True, slots=True)
class UnifiedOrderView(Unified):
    """IATA_OrderViewRS: one order, one unit per traveller."""

    def document(self, total: int) -> Lines:
        """See ``Shape``."""
        order = node(
            "Order",
            leaf("CreationDateTime", clock(ISSUED)),
            leaf("OrderID", f"{OWNER}SAMPLE1"),
            members("OrderItem"),
            leaf("OwnerCode", OWNER),
            leaf("StatusCode", "OPENED"),
            node("TotalPrice", self.money("TotalAmount", total)),
        )
        lists = self.data_lists([node("ContactInfoList", members("ContactInfo"))], [members("Pax")])
        payments = node("PaymentFunctions", members("PaymentProcessingSummary"))
        return self.envelope("IATA_OrderViewRS", [lists, order, payments])

    def units(self, dice: Dice, count: int, width: int) -> Iterator[Unit]:
        """See ``Shape``."""
        for unit in draw_travellers(dice, count, width):
            yield Unit(unit.total, self._members(unit))

    def _members(self, unit: Traveller) -> Members:
        lists = self.travel_members(unit.journeys, unit.price_class.booking_class) if unit.leads else {}
        lists |= {
            "OrderItem": [self._flight_item(unit), *self._extra_items(unit)],
            "ContactInfo": [parts.contact(unit)],
            "Pax": [parts.traveller(unit)],
            "PaymentProcessingSummary": [self._payment(unit)],
        }
        return {name: [self.spelled(lines) for lines in found] for name, found in lists.items()}

    def _flight_item(self, unit: Traveller) -> Lines:
        segments = [segment for journey in unit.journeys for segment in journey.segments]
        components = [parts.fare_component(unit.price_class, journey) for journey in unit.journeys]
        return node(
            "OrderItem",
            leaf("CreationDateTime", clock(ISSUED)),
            node("FareDetail", *components, leaf("PaxRefID", f"PAX{unit.number}")),
            leaf("OrderItemID", f"OI{unit.number}-FLT"),
            leaf("OwnerCode", OWNER),
            self.price("Price", unit.fare),
            *(self._flight_service(unit, place, segment) for place, segment in enumerate(segments, 1)),
            leaf("StatusCode", "ACTIVE"),
        )

    def _flight_service(self, unit: Traveller, place: int, segment: Segment) -> Lines:
        flight = node("PaxSegmentRef", leaf("PaxSegmentRefID", segment.id))
        return self._service(unit, f"SVC{unit.number}-{place}", flight)

    def _extra_items(self, unit: Traveller) -> list[Lines]:
        if unit.extra is None:
            return []
        kind, first = SERVICES[unit.extra], unit.journeys[0].segments[0]
        flight = node("OrderFlightAssociations", node("PaxSegmentRef", leaf("PaxSegmentRefID", first.id)))
        definition = node("ServiceDefinitionRef", flight, leaf("ServiceDefinitionRefID", service_id(unit.extra)))
        item = node(
            "OrderItem",
            leaf("CreationDateTime", clock(ISSUED)),
            leaf("OrderItemID", f"OI{unit.number}-{kind.code}"),
            leaf("OwnerCode", OWNER),
            self.price("Price", Price(kind.price)),
            self._service(unit, f"SVC{unit.number}-9", definition),
            leaf("StatusCode", "ACTIVE"),
        )
        return [item]

    def _service(self, unit: Traveller, identifier: str, bought: Lines) -> Lines:
        association = "OrderServiceAssociation" if self.newer else "ServiceAssociations"
        return node(
            "Service",
            node(association, bought),
            leaf("PaxRefID", f"PAX{unit.number}"),
            leaf("ServiceID", identifier),
            leaf("StatusCode", "HK"),
        )

    def _payment(self, unit: Traveller) -> Lines:
        method = parts.card(unit) if unit.by_card else node("Cash", leaf("CashInd", "true"))
        return node(
            "PaymentProcessingSummary",
            self.money("Amount", unit.total),
            leaf("PaymentID", f"PAY{unit.number}"),
            node("PaymentProcessingSummaryPaymentMethod", method),
            leaf("PaymentStatusCode", "SUCCESSFUL"),
        )


@dataclass(frozen=True, slots=True)
class UnifiedAirShopping(Unified):
    """IATA_AirShoppingRS: what two adults and a child could book, one unit per offer."""

    def document(self, total: int) -> Lines:
        """See ``Shape``. The sum of all offers means nothing in a search, and is not written."""
        del total
        shoppers = [node("Pax", leaf("PaxID", identifier), leaf("PTC", ptc)) for identifier, ptc in SHOPPERS]
        offers = node("OffersGroup", node("CarrierOffers", members("Offer")))
        search = node("ShoppingResponse", leaf("ShoppingResponseRefID", "201-sample-search-0001"))
        return self.envelope("IATA_AirShoppingRS", [self.data_lists([], shoppers), offers, search])

    def units(self, dice: Dice, count: int, width: int) -> Iterator[Unit]:
        """See ``Shape``."""
        for unit in draw_offers(dice, count, width):
            yield Unit(unit.total, self._members(unit))

    def _members(self, unit: Offer) -> Members:
        lists = self.travel_members(unit.journeys, unit.price_class.booking_class) if unit.leads else {}
        lists["Offer"] = [self._offer(unit)]
        return {name: [self.spelled(lines) for lines in found] for name, found in lists.items()}

    def _offer(self, unit: Offer) -> Lines:
        expiry = "OfferExpirationTimeLimitDateTime" if self.newer else "OfferExpirationDateTime"
        priced = [
            node("JourneyPriceClass", leaf("PaxJourneyRefID", journey.id), leaf("PriceClassRefID", unit.price_class.id))
            for journey in unit.journeys
        ]
        return node(
            "Offer",
            *parts.included_baggage("BaggageAssociations", unit.price_class.allowance),
            node("JourneyOverview", *priced),
            leaf(expiry, clock(ISSUED.replace(hour=21))),
            leaf("OfferID", f"OFR{unit.number}"),
            self._offer_item(unit, f"{unit.number}-1", ["PAX1", "PAX2"], unit.adult),
            self._offer_item(unit, f"{unit.number}-2", ["PAX3"], unit.child),
            leaf("OwnerCode", OWNER),
            node("TotalPrice", self.money("TotalAmount", unit.total)),
        )

    def _offer_item(self, unit: Offer, number: str, travellers: list[str], each: Price) -> Lines:
        journeys = node("PaxJourneyRef", leaves("PaxJourneyRefID", [journey.id for journey in unit.journeys]))
        association = "OfferServiceAssociation" if self.newer else "ServiceAssociations"
        component = parts.fare_component(unit.price_class, unit.journeys[0])
        paid = each.times(len(travellers))
        return node(
            "OfferItem",
            node("FareDetail", component, leaves("PaxRefID", travellers)),
            leaf("MandatoryInd", "true"),
            leaf("OfferItemID", f"OFI{number}"),
            self.price("Price", paid, itemised=False),
            node(
                "Service",
                node(association, journeys),
                leaves("PaxRefID", travellers),
                leaf("ServiceID", f"SVC{number}"),
            ),
        )
