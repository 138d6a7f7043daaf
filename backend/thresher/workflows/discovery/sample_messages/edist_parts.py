"""Elements of 17.2 that need nothing but what they tell of."""

from __future__ import annotations

from collections.abc import Iterable

from thresher.workflows.discovery.sample_messages.markup import Lines, leaf, node
from thresher.workflows.discovery.sample_messages.travel import (
    ALLOWANCES,
    TEST_CARD,
    Journey,
    Person,
    PriceClass,
    Segment,
    Traveller,
)

GENDERS = {"F": "Female", "M": "Male"}


def descriptions(texts: Iterable[str]) -> Lines:
    """Free texts."""
    return node("Descriptions", *(node("Description", leaf("Text", text)) for text in texts))


def allowances() -> list[Lines]:
    """The members of BaggageAllowanceList."""
    return [
        node(
            "BaggageAllowance",
            leaf("BaggageCategory", allowance.category),
            node(
                "PieceAllowance",
                leaf("ApplicableParty", "Traveler"),
                leaf("TotalQuantity", allowance.pieces),
                descriptions([allowance.text]),
            ),
            node("WeightAllowance", node("MaximumWeight", leaf("Value", allowance.kilograms), leaf("UOM", "K"))),
            BaggageAllowanceID=allowance.id,
        )
        for allowance in ALLOWANCES
    ]


def price_class(found: PriceClass) -> Lines:
    """A member of PriceClassList."""
    return node(
        "PriceClass",
        leaf("Name", found.name),
        leaf("Code", found.code),
        descriptions(found.texts),
        leaf("FareBasisCode", found.fare_basis),
        PriceClassID=found.id,
    )


def flight_segment(segment: Segment, found: PriceClass) -> Lines:
    """A member of FlightSegmentList."""
    code, name = segment.aircraft
    return node(
        "FlightSegment",
        _stop("Departure", segment, arrival=False),
        _stop("Arrival", segment, arrival=True),
        node(
            "MarketingCarrier",
            leaf("AirlineID", segment.carrier.code),
            leaf("Name", segment.carrier.name),
            leaf("FlightNumber", segment.flight_number),
        ),
        node("OperatingCarrier", leaf("AirlineID", segment.operator.code), leaf("Name", segment.operator.name)),
        node("Equipment", leaf("AircraftCode", code), leaf("Name", name)),
        node("ClassOfService", leaf("Code", found.booking_class), leaf("MarketingName", found.cabin)),
        node(
            "FlightDetail", node("FlightDuration", leaf("Value", f"PT{segment.minutes // 60}H{segment.minutes % 60}M"))
        ),
        SegmentKey=segment.id,
    )


def flight(journey: Journey) -> Lines:
    """A member of FlightList."""
    return node(
        "Flight",
        node("Journey", leaf("Time", journey.duration)),
        leaf("SegmentReferences", " ".join(segment.id for segment in journey.segments)),
        FlightKey=journey.id,
    )


def origin_destination(journey: Journey) -> Lines:
    """A member of OriginDestinationList."""
    return node(
        "OriginDestination",
        leaf("DepartureCode", journey.segments[0].origin.code),
        leaf("ArrivalCode", journey.segments[-1].destination.code),
        leaf("FlightReferences", journey.id),
        OriginDestinationKey=f"OD-{journey.id}",
    )


def fare_component(found: PriceClass, journey: Journey) -> Lines:
    """The fare of one journey."""
    return node(
        "FareComponent",
        node(
            "FareBasis",
            node("FareBasisCode", leaf("Code", found.fare_basis)),
            leaf("RBD", found.booking_class),
            node("CabinType", leaf("CabinTypeCode", found.cabin_code), leaf("CabinTypeName", found.cabin)),
        ),
        leaf("PriceClassRef", found.id),
        leaf("SegmentRefs", " ".join(segment.id for segment in journey.segments)),
    )


def passenger(unit: Traveller) -> Lines:
    """A member of an order's PassengerList."""
    person = unit.person
    return node(
        "Passenger",
        leaf("PTC", unit.ptc),
        leaf("Birthdate", person.born),
        leaf("CitizenshipCountryCode", person.home.country),
        node("Individual", leaf("Birthdate", person.born), leaf("Gender", GENDERS[person.gender]), *_name(person)),
        *_loyalty(person),
        _identity_document(person),
        *([node("Remarks", leaf("Remark", person.remark))] if person.remark else []),
        leaf("ContactInfoRef", f"CTC{unit.number}"),
        PassengerID=f"PAX{unit.number}",
    )


def contact(unit: Traveller) -> Lines:
    """A member of ContactList."""
    person = unit.person
    address = node(
        "PostalAddress",
        leaf("Street", person.street),
        leaf("PostalCode", person.postal_code),
        leaf("CityName", person.home.city),
        leaf("CountryCode", person.home.country),
    )
    return node(
        "ContactInformation",
        address,
        node("ContactProvided", node("EmailAddress", leaf("EmailAddressValue", person.email))),
        node("ContactProvided", node("Phone", leaf("Label", "Mobile"), leaf("PhoneNumber", person.phone))),
        ContactID=f"CTC{unit.number}",
    )


def card(unit: Traveller) -> Lines:
    """How an order was paid by card: the test number, never a real one."""
    person = unit.person
    return node(
        "PaymentCard",
        leaf("CardType", "Credit"),
        leaf("CardCode", "VI"),
        leaf("CardNumber", TEST_CARD),
        leaf("CardHolderName", f"{person.given} {person.surname}"),
        node("EffectiveExpireDate", leaf("Expiration", "1229")),
    )


def _name(person: Person) -> list[Lines]:
    return [leaf("NameTitle", person.title), leaf("GivenName", person.given), leaf("Surname", person.surname)]


def _loyalty(person: Person) -> list[Lines]:
    if person.loyalty is None:
        return []
    airline = node("Airline", leaf("AirlineDesignator", "ZZ"), leaf("Name", "Zephyr Sample Airways"))
    return [node("LoyaltyProgramAccount", airline, leaf("AccountNumber", person.loyalty))]


def _identity_document(person: Person) -> Lines:
    return node(
        "IdentityDocument",
        leaf("IdentityDocumentNumber", person.document),
        leaf("IdentityDocumentType", "PT"),
        leaf("IssuingCountryCode", person.home.country),
        leaf("IssueDate", person.issued),
        leaf("ExpiryDate", person.expires),
        leaf("Birthdate", person.born),
        *_name(person),
    )


def _stop(name: str, segment: Segment, *, arrival: bool) -> Lines:
    place, moment = (segment.destination, segment.arrives) if arrival else (segment.origin, segment.departs)
    return node(
        name,
        leaf("AirportCode", place.code),
        leaf("Date", moment.date()),
        leaf("Time", moment.strftime("%H:%M")),
        leaf("AirportName", place.name),
    )
