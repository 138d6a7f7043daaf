"""What the samples tell of: invented travellers, flights, fares and offers.

Nobody here exists: the names are made up, mail goes to example.com and example.org (RFC 2606), the telephone numbers
are those that regulators reserve for fiction, the card number is the test number 4111 1111 1111 1111, and the
carriers' codes belong to no airline. Amounts are in hundredths of the currency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from thresher.workflows.discovery.sample_messages.dice import Dice

BLOCK = "\x02"  # stands for one digit of the number of the block, filled in when it is written; cannot occur in XML
TEST_CARD = "4111111111111111"
MOST_IN_PARTY = 4
OFFERS_PER_JOURNEYS = 3
SHOPPERS = (("PAX1", "ADT"), ("PAX2", "ADT"), ("PAX3", "CHD"))  # for whom a search is answered


@dataclass(frozen=True, slots=True)
class Place:
    """An airport."""

    code: str
    name: str
    city: str
    country: str
    zone: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """An invented airline."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class PriceClass:
    """A fare family of the catalogue; ``factor`` is in per cent of the basic fare."""

    id: str
    code: str
    name: str
    fare_basis: str
    booking_class: str
    cabin_code: str
    cabin: str
    factor: int
    allowance: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """A service of the catalogue that can be bought with a flight."""

    code: str
    name: str
    text: str
    price: int
    allowance: str | None = None  # the id of what it adds to the baggage


@dataclass(frozen=True, slots=True)
class Allowance:
    """A baggage allowance of the catalogue."""

    id: str
    category: str
    pieces: int
    kilograms: int
    text: str


PLACES = (
    Place("OSL", "Oslo Airport, Gardermoen", "Oslo", "NO", "Europe/Oslo"),
    Place("RIX", "Riga International Airport", "Riga", "LV", "Europe/Riga"),
    Place("PRG", "Václav Havel Airport Prague", "Prague", "CZ", "Europe/Prague"),
    Place("LIS", "Humberto Delgado Airport", "Lisbon", "PT", "Europe/Lisbon"),
    Place("ZRH", "Zürich Airport", "Zürich", "CH", "Europe/Zurich"),
    Place("ATH", "Athens International Airport", "Athens", "GR", "Europe/Athens"),
    Place("KEF", "Keflavík International Airport", "Reykjavík", "IS", "Atlantic/Reykjavik"),
    Place("DUB", "Dublin Airport", "Dublin", "IE", "Europe/Dublin"),
    Place("GDN", "Gdańsk Lech Wałęsa Airport", "Gdańsk", "PL", "Europe/Warsaw"),
    Place("BOD", "Bordeaux-Mérignac Airport", "Bordeaux", "FR", "Europe/Paris"),
    Place("GOA", "Genoa Cristoforo Colombo Airport", "Genoa", "IT", "Europe/Rome"),
    Place("SKG", "Thessaloniki Airport Makedonia", "Thessaloniki", "GR", "Europe/Athens"),
)
CARRIERS = (
    Carrier("ZZ", "Zephyr Sample Airways"),
    Carrier("YY", "Yonder Example Air"),
    Carrier("XX", "Crosswind Test & Charter"),
)
AIRCRAFT = (("320", "Airbus A320"), ("73H", "Boeing 737-800"), ("E90", "Embraer 190"), ("223", "Airbus A220-300"))
CURRENCIES = ("EUR", "USD", "NOK", "CHF")
WOMEN = ("Ada", "Brida", "Celandine", "Dorrit", "Elowen", "Fenna", "Greta", "Hedda", "Isolde", "Junia", "Kersti", "Liv")
MEN = ("Anselm", "Bertil", "Caspar", "Dorian", "Edvin", "Florin", "Gustav", "Henrik", "Ivo", "Jorun", "Kasimir", "Leif")
SURNAMES = (
    "Quillfeather", "Marrowby", "Thistlewood", "Ashgrove", "Öberlund", "Fenwright", "Halloran-Pike", "Sandvær",
    "Brackenridge", "Oduwole-Test", "Kestrelholm", "Vantongeren", "Piskorzewski", "Lindenquist", "O'Sample",
    "Moorcastle", "Taverner-Gray", "Wintersgill", "Yarrowdale", "Zelenkova",
)  # fmt: skip
STREETS = ("Sample Street", "Placeholder Lane", "Fixture Road", "Mock Avenue", "Specimen Square", "Dummy Quay")
PHONES = ("+44 7700 9000", "+44 20 7946 00", "+1 202 555 01", "+1 312 555 01")  # two digits more, all reserved
REMARKS = (
    "Window seat preferred where one is free.",
    "Travels with a folded musical instrument as hand baggage.",
    "Assistance with the stairs requested.",
    "Asks for the receipt in paper form.",
)
PRICE_CLASSES = (
    PriceClass("PC1", "LIGHT", "Economy Light", "KLGT1", "K", "5", "Economy", 100, "BA1",
               ("One small bag under the seat", "No changes", "No refund")),
    PriceClass("PC2", "CLASSIC", "Economy Classic", "MCLS2", "M", "5", "Economy", 135, "BA2",
               ("One checked bag of 23 kg", "Changes for a fee", "Seat of your choice in the rear rows")),
    PriceClass("PC3", "FLEX", "Economy Flex", "BFLX3", "B", "5", "Economy", 190, "BA2",
               ("One checked bag of 23 kg", "Changes and refund free of charge", "Fast track where there is one")),
    PriceClass("PC4", "BUSINESS", "Business", "CBUS4", "C", "2", "Business", 410, "BA3",
               ("Two checked bags of 32 kg", "Changes and refund free of charge", "Lounge and meal included")),
)  # fmt: skip
SERVICES = (
    ServiceKind("BAG", "Second checked bag", "One more piece of checked baggage of up to 23 kg.", 45_00, "BA2"),
    ServiceKind("SEA", "Seat with more legroom", "A seat in an exit row or behind a bulkhead.", 29_50),
    ServiceKind("MEL", "Vegetarian meal", "A warm meal without meat or fish, to be ordered a day before.", 17_90),
    ServiceKind("BIK", "Bicycle", "One bicycle in a case, up to 32 kg, subject to room in the hold.", 60_00),
    ServiceKind("LNG", "Lounge", "Entry to the lounge at the first airport, two hours before departure.", 35_00),
    ServiceKind("WIF", "Internet on board", "A connection for one device from take-off to landing.", 9_90),
)
ALLOWANCES = (
    Allowance("BA1", "CarryOn", 1, 8, "One bag under the seat, 40 x 30 x 20 cm."),
    Allowance("BA2", "Checked", 1, 23, "One checked bag, 158 cm in all."),
    Allowance("BA3", "Checked", 2, 32, "Two checked bags, 158 cm in all each."),
)
TAXES = (("YQ", 1_200, 4_800), ("XT", 300, 1_900), ("UB", 150, 990))
FIRST_DAY = datetime(2027, 1, 11, tzinfo=UTC)
ISSUED = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Segment:
    """One flight of a journey; ``minutes`` is its duration. Times are as on the airports' clocks, without a zone."""

    id: str
    origin: Place
    destination: Place
    departs: datetime
    minutes: int
    carrier: Carrier
    operator: Carrier
    flight_number: int
    aircraft: tuple[str, str]

    @property
    def arrives(self) -> datetime:
        """When it lands."""
        return self.departs + timedelta(minutes=self.minutes)


@dataclass(frozen=True, slots=True)
class Journey:
    """One direction of travel, of one or two segments."""

    id: str
    segments: tuple[Segment, ...]

    @property
    def duration(self) -> str:
        """From the first departure to the last arrival, as ISO 8601."""
        minutes = int((self.segments[-1].arrives - self.segments[0].departs).total_seconds()) // 60
        return f"PT{minutes // 60}H{minutes % 60}M"


@dataclass(frozen=True, slots=True)
class Price:
    """``base`` plus all ``taxes`` is ``total``."""

    base: int
    taxes: tuple[tuple[str, int], ...] = ()

    @property
    def tax(self) -> int:
        """The sum of the taxes."""
        return sum(amount for _, amount in self.taxes)

    @property
    def total(self) -> int:
        """What is to be paid."""
        return self.base + self.tax

    def times(self, count: int) -> Price:
        """The price for ``count`` alike."""
        return Price(self.base * count, tuple((code, part * count) for code, part in self.taxes))


@dataclass(frozen=True, slots=True)
class Person:
    """An invented person."""

    gender: str
    title: str
    given: str
    surname: str
    born: date
    home: Place
    document: str
    issued: date
    expires: date
    email: str
    phone: str
    street: str
    postal_code: str
    loyalty: str | None
    remark: str | None


@dataclass(frozen=True, slots=True)
class Traveller:
    """The unit of an order. The first of a party ``leads``: the party's journeys are listed with it."""

    number: str
    leads: bool
    ptc: str
    person: Person
    journeys: tuple[Journey, ...]
    price_class: PriceClass
    fare: Price
    extra: int | None  # index in SERVICES
    by_card: bool

    @property
    def total(self) -> int:
        """What this traveller's order items cost together."""
        return self.fare.total + (SERVICES[self.extra].price if self.extra is not None else 0)


@dataclass(frozen=True, slots=True)
class Offer:
    """The unit of a search: journeys in one price class. ``adult`` and ``child`` are what one pays."""

    number: str
    leads: bool
    journeys: tuple[Journey, ...]
    price_class: PriceClass
    adult: Price
    child: Price

    @property
    def total(self) -> int:
        """What two adults and a child pay together."""
        return 2 * self.adult.total + self.child.total


def draw_travellers(dice: Dice, count: int, width: int) -> Iterator[Traveller]:
    """Travellers in parties of one to four; ids hold ``width`` digits of the block and two of their own."""
    drawn = 0
    while drawn < count:
        number = f"{BLOCK * width}{drawn:02d}"
        journeys = _draw_journeys(dice, number)
        price_class = dice.pick(PRICE_CLASSES)
        surname = dice.pick(SURNAMES)
        for place in range(min(dice.between(1, MOST_IN_PARTY), count - drawn)):
            own = f"{BLOCK * width}{drawn:02d}"
            ptc = "CHD" if place >= 2 else "ADT"
            yield Traveller(
                number=own,
                leads=place == 0,
                ptc=ptc,
                person=_draw_person(dice, own, ptc, surname),
                journeys=journeys,
                price_class=price_class,
                fare=_draw_fare(dice, journeys, price_class, ptc),
                extra=dice.below(len(SERVICES)) if dice.percent(35) else None,
                by_card=drawn % 7 == 3,
            )
            drawn += 1


def draw_offers(dice: Dice, count: int, width: int) -> Iterator[Offer]:
    """Offers, three price classes for the same journeys."""
    journeys: tuple[Journey, ...] = ()
    for place in range(count):
        number = f"{BLOCK * width}{place:02d}"
        leads = place % OFFERS_PER_JOURNEYS == 0
        if leads:
            journeys = _draw_journeys(dice, number)
        price_class = PRICE_CLASSES[place % OFFERS_PER_JOURNEYS + dice.below(2)]
        fares = [_draw_fare(dice, journeys, price_class, ptc) for ptc in ("ADT", "CHD")]
        yield Offer(number, leads, journeys, price_class, adult=fares[0], child=fares[1])


def _draw_journeys(dice: Dice, number: str) -> tuple[Journey, ...]:
    """Out, and back again four times in five."""
    origin = dice.below(len(PLACES))
    destination = (origin + dice.between(1, len(PLACES) - 1)) % len(PLACES)
    out = FIRST_DAY + timedelta(days=dice.below(320), minutes=5 * dice.between(60, 240))
    ways = [(origin, destination, out)]
    if dice.percent(80):
        ways.append((destination, origin, out + timedelta(days=dice.between(2, 21), minutes=5 * dice.between(-48, 48))))
    return tuple(_draw_journey(dice, f"{number}{'AB'[leg]}", way) for leg, way in enumerate(ways))


def _draw_journey(dice: Dice, number: str, way: tuple[int, int, datetime]) -> Journey:
    origin, destination, departs = way
    stops = [origin, destination]
    if dice.percent(40):
        stops.insert(1, next(stop for stop in range(len(PLACES)) if stop not in stops))
    segments = []
    for place in range(len(stops) - 1):
        segment = _draw_segment(dice, f"SEG{number}{place + 1}", stops[place : place + 2], departs)
        segments.append(segment)
        departs = segment.arrives + timedelta(minutes=5 * dice.between(9, 40))
    return Journey(f"JRN{number}", tuple(segments))


def _draw_segment(dice: Dice, identifier: str, stops: list[int], departs: datetime) -> Segment:
    carrier = dice.pick(CARRIERS)
    return Segment(
        id=identifier,
        origin=PLACES[stops[0]],
        destination=PLACES[stops[1]],
        departs=departs,
        minutes=5 * dice.between(13, 52),
        carrier=carrier,
        operator=dice.pick(CARRIERS) if dice.percent(25) else carrier,
        flight_number=dice.between(101, 8_999),
        aircraft=dice.pick(AIRCRAFT),
    )


def _draw_fare(dice: Dice, journeys: tuple[Journey, ...], price_class: PriceClass, ptc: str) -> Price:
    flown = sum(segment.minutes for journey in journeys for segment in journey.segments)
    base = flown * dice.between(38, 62) * price_class.factor // 100
    taxes = tuple((code, dice.between(least, most)) for code, least, most in TAXES[: dice.between(2, len(TAXES))])
    return Price(base * 3 // 4 if ptc == "CHD" else base, taxes)


def _draw_person(dice: Dice, number: str, ptc: str, surname: str) -> Person:
    woman = dice.percent(50)
    given = dice.pick(WOMEN if woman else MEN)
    child = ptc == "CHD"
    issued = date(2026, 1, 1) - timedelta(days=dice.below(2_500))
    born = date(2024, 6, 1) if child else date(2006, 6, 1)
    return Person(
        gender="F" if woman else "M",
        title=("Miss" if child else "Ms") if woman else ("Mstr" if child else "Mr"),
        given=given,
        surname=surname,
        born=born - timedelta(days=dice.below(2_900 if child else 21_000)),
        home=dice.pick(PLACES),
        document=f"{'KLMNPRX'[dice.below(7)]}{number}{dice.between(1_000, 9_999)}",
        issued=issued,
        expires=issued + timedelta(days=3_652),
        email=f"{given.lower()}.{number}@example.{'com' if dice.percent(60) else 'org'}",
        phone=f"{dice.pick(PHONES)}{dice.below(100):02d}",
        street=f"{dice.between(1, 198)} {dice.pick(STREETS)}",
        postal_code=f"{dice.between(1_000, 9_999)}",
        loyalty=f"{dice.between(10_000_000, 99_999_999)}{number}" if dice.percent(40) else None,
        remark=dice.pick(REMARKS) if dice.percent(20) else None,
    )
