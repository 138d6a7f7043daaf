"""Samples: real shapes, invented content, any size, the same bytes everywhere."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import statistics
import tracemalloc
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from thresher.core.errors import BadConfiguration
from thresher.workflows.discovery.sample_messages import (
    MessageName,
    MessageVersion,
    SampleSpec,
    expected_counts,
    parse_size,
    write_sample,
)

BUNDLED = Path(__file__).parents[4] / "samples" / "OrderViewRS_19.2.xml"
KINDS = [(message, version) for message in ("OrderViewRS", "AirShoppingRS") for version in ("17.2", "19.2", "21.3")]
ROOTS = {
    ("OrderViewRS", "17.2"): "{http://www.iata.org/IATA/EDIST/2017.2}OrderViewRS",
    ("AirShoppingRS", "17.2"): "{http://www.iata.org/IATA/EDIST/2017.2}AirShoppingRS",
    ("OrderViewRS", "19.2"): "{http://www.iata.org/IATA/2015/00/2019.2/IATA_OrderViewRS}IATA_OrderViewRS",
    ("AirShoppingRS", "19.2"): "{http://www.iata.org/IATA/2015/00/2019.2/IATA_AirShoppingRS}IATA_AirShoppingRS",
    ("OrderViewRS", "21.3"): "{http://www.iata.org/IATA/2015/EASD/00/IATA_OffersAndOrdersMessage}IATA_OrderViewRS",
    ("AirShoppingRS", "21.3"): "{http://www.iata.org/IATA/2015/EASD/00/IATA_OffersAndOrdersMessage}IATA_AirShoppingRS",
}
DIGESTS = {  # of 450 units with seed 7: more than a cycle of blocks
    ("OrderViewRS", "17.2"): "0a4c9599afb3a80c519ffc0d6ca9543ff6568a13546c40d39247a6680d97d5af",
    ("OrderViewRS", "19.2"): "8f496f4a27b78a78d37228bfacc85b174179a3224f7f5e40a034e47b6f5b56bd",
    ("OrderViewRS", "21.3"): "1385baaa85a25704d09e5ea4465b948bce0f26697b15b554be9b140f925513a5",
    ("AirShoppingRS", "17.2"): "b9bce3e9180018a743020427fe725cce08e58dd2f7d33e13eed6c3fa7f1c40c5",
    ("AirShoppingRS", "19.2"): "6882f880b7fe7b2efbcf09b8ef83579c50feb54f07bac29f79bec43bc0c1a8d4",
    ("AirShoppingRS", "21.3"): "803de5b32751de9d403f8f2293e6de14d5a83f9a65c3cd8b56129e55db520c96",
}
UNITS = {
    ("OrderViewRS", "17.2"): "/OrderViewRS/Response/DataLists/PassengerList/Passenger",
    ("AirShoppingRS", "17.2"): "/AirShoppingRS/OffersGroup/AirlineOffers/Offer",
    ("OrderViewRS", "19.2"): "/IATA_OrderViewRS/Response/DataLists/PaxList/Pax",
    ("AirShoppingRS", "19.2"): "/IATA_AirShoppingRS/Response/OffersGroup/CarrierOffers/Offer",
    ("OrderViewRS", "21.3"): "/IATA_OrderViewRS/Response/DataLists/PaxList/Pax",
    ("AirShoppingRS", "21.3"): "/IATA_AirShoppingRS/Response/OffersGroup/CarrierOffers/Offer",
}
KEYS_OF_17_2 = {  # what a reference of this name points to
    "PassengerRef": "PassengerID",
    "PassengerRefs": "PassengerID",
    "SegmentRef": "SegmentKey",
    "SegmentRefs": "SegmentKey",
    "SegmentReferences": "SegmentKey",
    "FlightRef": "FlightKey",
    "FlightRefs": "FlightKey",
    "FlightReferences": "FlightKey",
    "ODRef": "OriginDestinationKey",
    "PriceClassRef": "PriceClassID",
    "ServiceDefinitionRef": "ServiceDefinitionID",
    "BaggageAllowanceRef": "BaggageAllowanceID",
    "ContactInfoRef": "ContactID",
}


def sample(spec: SampleSpec) -> bytes:
    stream = io.BytesIO()
    write_sample(spec, stream)
    return stream.getvalue()


def tree(spec: SampleSpec) -> etree._Element:
    return etree.fromstring(sample(spec))


def local(element: etree._Element) -> str:
    return str(etree.QName(element).localname)


def by_name(root: etree._Element, *names: str) -> list[etree._Element]:
    return [element for element in root.iter() if isinstance(element.tag, str) and local(element) in names]


def cents(element: etree._Element | None) -> Decimal:
    assert element is not None
    return Decimal(element.text or "")


def child(element: etree._Element, *names: str) -> etree._Element:
    """The one descendant at a path of local names."""
    for name in names:
        (element,) = [found for found in element if local(found) == name]
    return element


@pytest.mark.parametrize(("message", "version"), KINDS)
def test_root_and_namespace_are_those_of_the_version(message: MessageName, version: MessageVersion) -> None:
    assert tree(SampleSpec(message, version, units=3)).tag == ROOTS[message, version]


@pytest.mark.parametrize(("message", "version"), KINDS)
@pytest.mark.parametrize("length", [{"units": 1}, {"units": 130}, {"size_bytes": 250_000}, {"size_bytes": 1}])
def test_expected_counts_are_the_members_that_are_written(
    message: MessageName, version: MessageVersion, length: dict[str, int]
) -> None:
    spec = SampleSpec(message, version, seed=5, **length)
    found: Counter[str] = Counter()
    for element in tree(spec).iter():
        names = [local(above) for above in [*reversed(list(element.iterancestors())), element]]
        found["/" + "/".join(names)] += 1
    counts = expected_counts(spec)
    assert {path: found[path] for path in counts} == counts
    lists = {path.rpartition("/")[0] for path in counts}
    assert all(path in counts for path in found if path.rpartition("/")[0] in lists and "List/" in path)


@pytest.mark.parametrize(("message", "version"), KINDS)
@pytest.mark.parametrize("units", [1, 7, 50, 51, 403])
def test_units_are_as_many_as_asked_for(message: MessageName, version: MessageVersion, units: int) -> None:
    assert expected_counts(SampleSpec(message, version, units=units))[UNITS[message, version]] == units


@pytest.mark.parametrize(("message", "version"), KINDS)
@given(size=st.integers(100_000, 2_000_000), seed=st.integers(0, 2**70))
@settings(max_examples=5, deadline=None)
def test_size_is_met_within_two_per_cent(message: MessageName, version: MessageVersion, size: int, seed: int) -> None:
    written = write_sample(SampleSpec(message, version, seed, size_bytes=size), io.BytesIO())
    assert abs(written - size) <= 0.02 * size


@pytest.mark.parametrize("version", ["19.2", "21.3"])
@pytest.mark.parametrize("message", ["OrderViewRS", "AirShoppingRS"])
def test_references_of_newer_versions_resolve_and_ids_are_unique(message: MessageName, version: MessageVersion) -> None:
    root = tree(SampleSpec(message, version, units=120))
    ids: dict[str, set[str]] = {}
    references: set[tuple[str, str]] = set()
    for element in root.iter():
        name, text = local(element), element.text or ""
        if re.search("Ref(ID|Id)$", name) and name != "ShoppingResponseRefID":
            references.add((re.sub("Ref(ID|Id)$", "", name), text))
        elif re.search("(ID|Id)$", name) and not name.startswith(("Correlation", "Trx", "Org", "IdentityDoc")):
            known = ids.setdefault(re.sub("(ID|Id)$", "", name), set())
            assert text not in known
            known.add(text)
    assert references
    assert [(name, text) for name, text in references if text not in ids.get(name, ())] == []


@pytest.mark.parametrize("message", ["OrderViewRS", "AirShoppingRS"])
def test_references_of_17_2_resolve(message: MessageName) -> None:
    root = tree(SampleSpec(message, "17.2", units=120))
    keys: dict[str, set[str]] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            keys.setdefault(str(name), set()).add(str(value))
    pairs = [(local(element), element.text or "") for element in root.iter() if local(element) in KEYS_OF_17_2]
    pairs += [(n, v) for element in root.iter() for n, v in element.attrib.items() if n in KEYS_OF_17_2]
    missing = [
        (name, part) for name, value in pairs for part in value.split() if part not in keys[KEYS_OF_17_2[str(name)]]
    ]
    assert pairs
    assert missing == []


@pytest.mark.parametrize("version", ["19.2", "21.3"])
def test_prices_of_newer_orders_add_up(version: MessageVersion) -> None:
    root = tree(SampleSpec("OrderViewRS", version, units=120))
    prices = by_name(root, "Price")
    for price in prices:
        tax = [cents(element) for element in by_name(price, "TotalTaxAmount")]
        parts = [cents(child(element, "Amount")) for element in by_name(price, "Tax")]
        assert sum(parts) == sum(tax)
        assert cents(child(price, "BaseAmount")) + sum(tax) == cents(child(price, "TotalAmount"))
    total = cents(child(root, "Response", "Order", "TotalPrice", "TotalAmount"))
    assert total == sum(cents(child(price, "TotalAmount")) for price in prices)
    assert total == sum(cents(child(paid, "Amount")) for paid in by_name(root, "PaymentProcessingSummary"))


def test_prices_of_a_17_2_order_add_up() -> None:
    root = tree(SampleSpec("OrderViewRS", "17.2", units=120))
    details = by_name(root, "PriceDetail")
    for detail in details:
        tax = sum(cents(child(element, "Total")) for element in by_name(detail, "Taxes"))
        total = cents(child(detail, "TotalAmount", "SimpleCurrencyPrice"))
        assert cents(child(detail, "BaseAmount")) + tax == total
    order = cents(child(root, "Response", "Order", "TotalOrderPrice", "SimpleCurrencyPrice"))
    assert order == sum(cents(child(detail, "TotalAmount", "SimpleCurrencyPrice")) for detail in details)
    assert order == sum(cents(child(paid, "Amount")) for paid in by_name(root, "Payment"))


@pytest.mark.parametrize("version", ["17.2", "19.2", "21.3"])
def test_an_offer_costs_what_its_items_cost(version: MessageVersion) -> None:
    offers = by_name(tree(SampleSpec("AirShoppingRS", version, units=30)), "Offer")
    for offer in offers:
        if version == "17.2":
            items = [child(item, "TotalPriceDetail", "TotalAmount") for item in by_name(offer, "OfferItem")]
            costs = [cents(child(item, "DetailCurrencyPrice", "Total")) for item in items]
            assert cents(child(offer, "TotalPrice", "DetailCurrencyPrice", "Total")) == sum(costs)
        else:
            items = [child(item, "Price", "TotalAmount") for item in by_name(offer, "OfferItem")]
            assert cents(child(offer, "TotalPrice", "TotalAmount")) == sum(map(cents, items))


@pytest.mark.parametrize(
    ("version", "currency", "identified"),
    [("17.2", "Code", True), ("19.2", "CurCode", False), ("21.3", "CurCode", False)],
)
def test_ids_and_currencies_are_spelled_as_the_version_spells_them(
    version: MessageVersion, currency: str, *, identified: bool
) -> None:
    text = sample(SampleSpec("OrderViewRS", version, units=3)).decode()
    assert re.search(rf'Amount {currency}="[A-Z]{{3}}">\d+\.\d\d<', text)
    assert bool(re.search('<OrderItem OrderItemID="', text)) is identified
    assert bool(re.search(r"<(cns:)?OrderItemID>", text)) is not identified


def test_21_3_parts_a_segment_and_spells_the_ids_of_its_parts_with_a_small_d() -> None:
    root = tree(SampleSpec("OrderViewRS", "21.3", units=3))
    segment = by_name(root, "PaxSegment")[0]
    marketed = child(segment, "DatedMarketingSegmentRefId").text
    assert marketed in [element.text for element in by_name(root, "DatedMarketingSegmentId")]
    assert by_name(root, "DatedOperatingLegList", "DatedOperatingSegmentList")


def test_the_newest_version_is_told_before_the_lists_and_nowhere_in_its_namespaces() -> None:
    head = sample(SampleSpec("OrderViewRS", "21.3", units=3)).partition(b"<Response>")[0]
    assert b"<cns:VersionNumber>21.3</cns:VersionNumber>" in head
    assert all(b"21.3" not in uri for uri in re.findall(rb'xmlns[^"]*"([^"]+)"', head))


@pytest.mark.parametrize(("message", "version"), KINDS)
def test_subtrees_are_as_large_as_real_ones(message: MessageName, version: MessageVersion) -> None:
    spec = SampleSpec(message, version, units=100)
    text = sample(spec).decode()
    names = "Pax|Passenger|PaxSegment|FlightSegment|OrderItem|Offer|ContactInfo|ContactInformation"
    sizes = [len(found[0]) for found in re.finditer(rf"<((?:cns:)?(?:{names}))[ >].*?</\1>", text, re.DOTALL)]
    if message == "OrderViewRS":
        assert 900 < statistics.median(sizes) < 2_000
    assert max(sizes) < 4_500


def test_no_two_members_are_alike_however_long_the_message() -> None:
    root = tree(SampleSpec("OrderViewRS", "19.2", units=420))  # more than a cycle of blocks
    for name in ("Pax", "OrderItem", "PaxSegment", "ContactInfo", "PaymentProcessingSummary"):
        texts = [etree.tostring(element) for element in by_name(root, name)]
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("version", ["17.2", "19.2", "21.3"])
def test_nobody_can_be_reached_or_charged(version: MessageVersion) -> None:
    root = tree(SampleSpec("OrderViewRS", version, units=200))
    for mail in by_name(root, "EmailAddressText", "EmailAddressValue"):
        assert re.fullmatch(r"[a-z]+\.\d+@example\.(com|org)", mail.text or "")
    for phone in by_name(root, "PhoneNumber"):
        assert re.fullmatch(r"\+44 7700 9000\d\d|\+44 20 7946 00\d\d|\+1 (202|312) 555 01\d\d", phone.text or "")
    cards = {card.text for card in by_name(root, "CardNumberText", "CardNumber")}
    assert cards == {"4111111111111111"}


@pytest.mark.parametrize(("message", "version"), KINDS)
def test_bytes_are_the_same_on_every_machine_and_python(message: MessageName, version: MessageVersion) -> None:
    text = sample(SampleSpec(message, version, seed=7, units=450))
    assert hashlib.sha256(text).hexdigest() == DIGESTS[message, version]


def test_the_bundled_document_is_the_sample_it_is_said_to_be() -> None:
    assert sample(SampleSpec("OrderViewRS", "19.2", seed=1, size_bytes=200_000)) == BUNDLED.read_bytes()


def test_another_seed_tells_another_story() -> None:
    first, second = (sample(SampleSpec(seed=seed, units=5)) for seed in (1, 2))
    assert set(re.findall(rb"<GivenName>.*", first)) != set(re.findall(rb"<GivenName>.*", second))


class Sink:
    """Takes everything, keeps nothing."""

    def __init__(self, capacity: int = 10**12) -> None:
        self.capacity = capacity
        self.largest_piece = 0

    def write(self, data: bytes) -> None:
        self.capacity -= len(data)
        if self.capacity < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.largest_piece = max(self.largest_piece, len(data))


def test_memory_does_not_grow_with_the_size() -> None:
    sink = Sink()
    tracemalloc.start()
    try:
        write_sample(SampleSpec("OrderViewRS", "21.3", size_bytes=40_000_000), sink)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25_000_000
    assert sink.largest_piece < 1_000_000


def test_a_full_disk_is_the_callers_to_know() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_sample(SampleSpec(size_bytes=1_000_000), Sink(capacity=300_000))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"message": "OrderCreateRQ", "units": 1}, "OrderCreateRQ"),
        ({"version": "18.1", "units": 1}, "18.1"),
        ({}, "size"),
        ({"units": 1, "size_bytes": 1}, "size"),
        ({"units": 0}, "1 or more"),
        ({"size_bytes": -5}, "1 or more"),
    ],
)
def test_an_impossible_sample_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        SampleSpec(**fields)


@pytest.mark.parametrize(
    ("text", "size"),
    [("200KB", 200_000), ("1.5 gb", 1_500_000_000), ("64MiB", 67_108_864), ("700", 700), ("0.29GB", 290_000_000)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1KB", "0", "1e3", "5 parsecs", "1,5MB", "٣MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadConfiguration, match="is no size"):
        parse_size(text)
