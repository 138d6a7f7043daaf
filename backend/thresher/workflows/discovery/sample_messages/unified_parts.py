"""Elements of 19.2 and 21.3 that need nothing but what they tell of."""

from __future__ import annotations

from thresher.workflows.discovery.sample_messages.markup import INDENT, Lines, leaf, leaves, node, prefixed
from thresher.workflows.discovery.sample_messages.shapes import clock
from thresher.workflows.discovery.sample_messages.travel import (
    ALLOWANCES,
    ISSUED,
    TEST_CARD,
    Journey,
    Person,
    Place,
    PriceClass,
    Segment,
    Traveller,
)


def common(lines: Lines) -> Lines:
    """A child of the message in 21.3: its own name stays, all below is of the common types."""
    return [prefixed([line], "cns:")[0] if line.startswith(INDENT) else line for line in lines]


def message_doc() -> Lines:
    """Who made the message."""
    return node("MessageDoc", leaf("Name", "THRESHER SAMPLE"), leaf("RefVersionNumber", "1.0"))


def payload(version: str) -> Lines:
    """What the message says of itself."""
    return node(
        "PayloadAttributes",
        leaf("CorrelationID", "5a3c1e00-0000-4000-8000-000000000001"),
        leaf("Timestamp", f"{clock(ISSUED)}Z"),
        leaf("TrxID", "SAMPLE-TRX-1"),
        leaf("VersionNumber", version),
    )


def distribution_chain(owner: str) -> Lines:
    """Who sells, in 21.3."""
    organisation = node("ParticipatingOrg", leaf("Name", "Zephyr Sample Airways"), leaf("OrgID", owner))
    link = node("DistributionChainLink", leaf("Ordinal", 1), leaf("OrgRole", "Carrier"), organisation)
    return node("DistributionChain", link)


def allowances() -> list[Lines]:
    """The members of BaggageAllowanceList."""
    return [
        node(
            "BaggageAllowance",
            leaf("BaggageAllowanceID", allowance.id),
            node("Desc", leaf("DescText", allowance.text)),
            node("PieceAllowance", leaf("ApplicablePartyText", "Traveler"), leaf("TotalQty", allowance.pieces)),
            leaf("TypeCode", allowance.category),
            node("WeightAllowance", leaf("MaximumWeightMeasure", allowance.kilograms, UnitCode="KGM")),
        )
        for allowance in ALLOWANCES
    ]


def included_baggage(name: str, allowance: str | None) -> list[Lines]:
    """The allowance that comes with something, where one does."""
    return [node(name, leaf("BaggageAllowanceRefID", allowance))] if allowance else []


def price_class(found: PriceClass) -> Lines:
    """A member of PriceClassList."""
    return node(
        "PriceClass",
        leaf("Code", found.code),
        *(node("Desc", leaf("DescText", text)) for text in found.texts),
        leaf("FareBasisCode", found.fare_basis),
        leaf("Name", found.name),
        leaf("PriceClassID", found.id),
    )


def origin_dest(journey: Journey) -> Lines:
    """A member of OriginDestList."""
    return node(
        "OriginDest",
        leaf("DestCode", journey.segments[-1].destination.code),
        leaf("OriginCode", journey.segments[0].origin.code),
        leaf("OriginDestID", f"OD-{journey.id}"),
        leaf("PaxJourneyRefID", journey.id),
    )


def pax_journey(journey: Journey) -> Lines:
    """A member of PaxJourneyList."""
    return node(
        "PaxJourney",
        leaf("Duration", journey.duration),
        leaf("PaxJourneyID", journey.id),
        leaves("PaxSegmentRefID", [segment.id for segment in journey.segments]),
    )


def pax_segment(segment: Segment, booking_class: str) -> Lines:
    """A member of 19.2's PaxSegmentList, which tells everything of a flight itself."""
    return node(
        "PaxSegment",
        node("Arrival", *_stop(segment, arrival=True)),
        operating_leg(segment, f"LEG-{segment.id}"),
        node("Dep", *_stop(segment, arrival=False)),
        leaf("Duration", _duration(segment)),
        node("MarketingCarrierInfo", *_marketing_carrier(segment), leaf("RBD_Code", booking_class)),
        node("OperatingCarrierInfo", *_operating_carrier(segment)),
        leaf("PaxSegmentID", segment.id),
    )


def linked_segment(segment: Segment, booking_class: str) -> Lines:
    """A member of 21.3's PaxSegmentList, which points to what is marketed."""
    return node(
        "PaxSegment",
        leaf("DatedMarketingSegmentRefId", f"DMS-{segment.id}"),
        leaf("MarketingCarrierRBD_Code", booking_class),
        leaf("PaxSegmentID", segment.id),
    )


def marketing_segment(segment: Segment) -> Lines:
    """A member of DatedMarketingSegmentList."""
    return node(
        "DatedMarketingSegment",
        node("Arrival", *_stop(segment, arrival=True)),
        leaf("CarrierDesigCode", segment.carrier.code),
        leaf("CarrierName", segment.carrier.name),
        leaf("DatedMarketingSegmentId", f"DMS-{segment.id}"),
        leaf("DatedOperatingSegmentRefId", f"DOS-{segment.id}"),
        node("Dep", *_stop(segment, arrival=False)),
        leaf("MarketingCarrierFlightNumberText", segment.flight_number),
    )


def operating_segment(segment: Segment) -> Lines:
    """A member of DatedOperatingSegmentList."""
    return node(
        "DatedOperatingSegment",
        leaf("CarrierDesigCode", segment.operator.code),
        leaf("CarrierName", segment.operator.name),
        leaf("DatedOperatingLegRefID", f"LEG-{segment.id}"),
        leaf("DatedOperatingSegmentId", f"DOS-{segment.id}"),
        leaf("Duration", _duration(segment)),
        leaf("OperatingCarrierFlightNumberText", segment.flight_number),
    )


def operating_leg(segment: Segment, identifier: str) -> Lines:
    """What is flown: the aircraft between two airports."""
    code, name = segment.aircraft
    return node(
        "DatedOperatingLeg",
        node("Arrival", *_stop(segment, arrival=True)),
        node("CarrierAircraftType", leaf("CarrierAircraftTypeCode", code), leaf("CarrierAircraftTypeName", name)),
        leaf("DatedOperatingLegID", identifier),
        node("Dep", *_stop(segment, arrival=False)),
    )


def fare_component(found: PriceClass, journey: Journey) -> Lines:
    """The fare of one journey."""
    return node(
        "FareComponent",
        node("CabinType", leaf("CabinTypeCode", found.cabin_code), leaf("CabinTypeName", found.cabin)),
        leaf("FareBasisCode", found.fare_basis),
        leaves("PaxSegmentRefID", [segment.id for segment in journey.segments]),
        leaf("PriceClassRefID", found.id),
        node("RBD", leaf("RBD_Code", found.booking_class)),
    )


def traveller(unit: Traveller) -> Lines:
    """A member of an order's PaxList."""
    person = unit.person
    return node(
        "Pax",
        leaf("Birthdate", person.born),
        leaf("CitizenshipCountryCode", person.home.country),
        leaf("ContactInfoRefID", f"CTC{unit.number}"),
        _identity_doc(person),
        _individual(person, unit.number),
        *_loyalty(person),
        leaf("PaxID", f"PAX{unit.number}"),
        leaf("PTC", unit.ptc),
        *([node("Remark", leaf("RemarkText", person.remark))] if person.remark else []),
    )


def contact(unit: Traveller) -> Lines:
    """A member of ContactInfoList."""
    person = unit.person
    return node(
        "ContactInfo",
        leaf("ContactInfoID", f"CTC{unit.number}"),
        leaf("ContactTypeText", "Home"),
        node("EmailAddress", leaf("EmailAddressText", person.email)),
        node("Phone", leaf("ContactTypeText", "Mobile"), leaf("PhoneNumber", person.phone)),
        node("PostalAddress", *_address(person)),
    )


def card(unit: Traveller) -> Lines:
    """How an order was paid by card: the test number, never a real one."""
    person = unit.person
    return node(
        "PaymentCard",
        leaf("CardBrandCode", "VI"),
        leaf("CardHolderName", f"{person.given} {person.surname}"),
        leaf("CardNumberText", TEST_CARD),
        leaf("CardTypeText", "Credit"),
        leaf("ExpirationDate", "1229"),
    )


def _individual(person: Person, number: str) -> Lines:
    return node(
        "Individual",
        leaf("Birthdate", person.born),
        leaf("GenderCode", person.gender),
        leaf("GivenName", person.given),
        leaf("IndividualID", f"IND{number}"),
        leaf("Surname", person.surname),
        leaf("TitleName", person.title),
    )


def _identity_doc(person: Person) -> Lines:
    return node(
        "IdentityDoc",
        leaf("Birthdate", person.born),
        leaf("ExpiryDate", person.expires),
        leaf("GenderCode", person.gender),
        leaf("GivenName", person.given),
        leaf("IdentityDocID", person.document),
        leaf("IdentityDocTypeCode", "PT"),
        leaf("IssueDate", person.issued),
        leaf("IssuingCountryCode", person.home.country),
        leaf("Surname", person.surname),
    )


def _loyalty(person: Person) -> list[Lines]:
    if person.loyalty is None:
        return []
    programme = node("LoyaltyProgram", leaf("ProgramName", "Zephyr Sample Miles"), leaf("ProgramCode", "ZZ"))
    return [node("LoyaltyProgramAccount", leaf("AccountNumber", person.loyalty), programme)]


def _address(person: Person) -> list[Lines]:
    home: Place = person.home
    return [
        leaf("CityName", home.city),
        leaf("CountryCode", home.country),
        leaf("PostalCode", person.postal_code),
        leaf("StreetText", person.street),
    ]


def _stop(segment: Segment, *, arrival: bool) -> list[Lines]:
    place, moment = (segment.destination, segment.arrives) if arrival else (segment.origin, segment.departs)
    return [
        leaf("AircraftScheduledDateTime", clock(moment), TimeZoneCode=place.zone),
        leaf("IATA_LocationCode", place.code),
        leaf("StationName", place.name),
    ]


def _duration(segment: Segment) -> str:
    return f"PT{segment.minutes // 60}H{segment.minutes % 60}M"


def _marketing_carrier(segment: Segment) -> list[Lines]:
    return [
        leaf("CarrierDesigCode", segment.carrier.code),
        leaf("CarrierName", segment.carrier.name),
        leaf("MarketingCarrierFlightNumberText", segment.flight_number),
    ]


def _operating_carrier(segment: Segment) -> list[Lines]:
    return [
        leaf("CarrierDesigCode", segment.operator.code),
        leaf("CarrierName", segment.operator.name),
        leaf("OperatingCarrierFlightNumberText", segment.flight_number),
    ]
