from __future__ import annotations

import time
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from thresher.llm.masking import Masker, Pseudonyms
from thresher.llm.personal_text import find_personal_data, may_hold_personal_data


def masked(xml: str) -> tuple[str, Pseudonyms]:
    root = etree.fromstring(xml)
    pseudonyms = Masker().mask(root)
    return etree.tostring(root, encoding="unicode"), pseudonyms


PERSONAL = [
    ("<E>mail ann.lee+x@mail.example.com now</E>", "ann.lee+x@mail.example.com"),
    ("<E a='x@y.org'/>", "x@y.org"),
    ("<E><B/>tail x@y.org</E>", "x@y.org"),
    ("<E><!-- x@y.org --></E>", "x@y.org"),
    ("<E><?p x@y.org?></E>", "x@y.org"),
    ("<E><![CDATA[<x@y.org>]]></E>", "x@y.org"),
    ("<E>SSR CTCE LH HK1/ANN.LEE//MAIL.EXAMPLE.COM</E>", "ANN.LEE//MAIL.EXAMPLE.COM"),
    ("<E>card 4111 1111 1111 1111 exp 12/27</E>", "4111 1111 1111 1111"),
    ("<E>4111-1111-1111-1111</E>", "4111-1111-1111-1111"),
    ("<E>4111111111111111</E>", "4111111111111111"),
    ("<E>371449635398431</E>", "371449635398431"),
    ("<E>5555555555554444 2026</E>", "5555555555554444"),
    ("<E>+49 (30) 1234-5678</E>", "+49 (30) 1234-5678"),
    ("<E>call +4930123456 2026-01-02</E>", "+4930123456"),
    ("<E>call (555) 123-4567 today</E>", "(555) 123-4567"),
    ("<E>SSR CTCM LH HK1 4915112345678</E>", "4915112345678"),
    ("<E>Tel: 030 1234567</E>", "030 1234567"),
    ("<E>SSR DOCS LH HK1/P/DEU/C01X00T47/DEU/12AUG80/F/20JAN30/MUSTERMANN/ERIKA</E>", "C01X00T47"),
    ("<E>SSR DOCS LH HK1/P/DEU/C01X00T47/DEU/12AUG80/F/20JAN30/MUSTERMANN/ERIKA</E>", "12AUG80"),
    ("<E>SSR DOCS LH HK1/P/DEU/C01X00T47/DEU/12AUG80/F/20JAN30/MUSTERMANN/ERIKA</E>", "MUSTERMANN"),
    ("<E>PAX MUSTERMANN/ERIKA MRS</E>", "MUSTERMANN"),
    ("<E>PAX MUSTERMANN/ERIKAMRS</E>", "MUSTERMANN"),
    ("<E>pay to DE89 3704 0044 0532 0130 00 TODAY</E>", "DE89 3704 0044 0532 0130 00"),
    ("<E>from 203.0.113.9 at noon</E>", "203.0.113.9"),
    ("<E>from 2001:db8::8a2e:370:7334</E>", "2001:db8::8a2e:370:7334"),
    ("<E xmlns='urn:version:1'>203.0.113.9</E>", "203.0.113.9"),
    ("<E>https://ann:pa55@host.example/x</E>", "ann:pa55"),
    ("<Individual><GivenName>Ann</GivenName></Individual>", "Ann"),
    ("<Individual><Surname> Lee </Surname></Individual>", "Lee"),
    ("<n:Pax xmlns:n='u'><n:Individual><n:MiddleName>Eve</n:MiddleName></n:Individual></n:Pax>", "Eve"),
    ("<Contact><Name>Ann Lee</Name></Contact>", "Ann Lee"),
    ("<patient><name><given>Ann</given></name></patient>", "Ann"),
    ("<Pax FirstName='Ann'/>", "Ann"),
    ("<Individual><Birthdate>1980-03-21</Birthdate></Individual>", "1980-03-21"),
    ("<patient><birthTime value='19800321'/></patient>", "19800321"),
    ("<PostalAddress><StreetText>Long Road 1</StreetText></PostalAddress>", "Long Road 1"),
    ("<PostalAddress><PostalCode>10115</PostalCode></PostalAddress>", "10115"),
    ("<PostalAddress><CityName>Berlin</CityName></PostalAddress>", "Berlin"),
    ("<IdentityDoc><IdentityDocID>C01X00T47</IdentityDocID></IdentityDoc>", "C01X00T47"),
    ("<IdentityDocument><IdentityDocumentNumber>C01X</IdentityDocumentNumber></IdentityDocument>", "C01X"),
    ("<Passport><Number>C01X</Number></Passport>", "C01X"),
    ("<PassportNumber>C01X</PassportNumber>", "C01X"),
    ("<FOID><ID>C01X</ID></FOID>", "C01X"),
    ("<Doc DocumentNumber='C01X'/>", "C01X"),
    ("<LoyaltyProgramAccount><AccountNumber>992001</AccountNumber></LoyaltyProgramAccount>", "992001"),
    ("<Phone><PhoneNumber>1234567</PhoneNumber></Phone>", "1234567"),
    ("<PaymentCard><CardNumber>5456912312789550</CardNumber></PaymentCard>", "5456912312789550"),
    ("<E IPAddress='fe80::1'/>", "fe80::1"),
]


@pytest.mark.parametrize(("xml", "value"), PERSONAL)
def test_personal_data_does_not_leave_and_comes_back(xml: str, value: str) -> None:
    text, pseudonyms = masked(xml)
    assert value not in text
    assert pseudonyms.count >= 1
    assert value in pseudonyms.restore(text)


@pytest.mark.parametrize(
    "xml",
    [
        "<Order><OrderID>LH0012345678901</OrderID></Order>",
        "<OrderItem OrderItemID='1234567890123456'/>",
        "<TicketDocNbr>2201234567890</TicketDocNbr>",
        "<Flight>LH 1234</Flight>",
        "<Amount Code='EUR'>12345678.90</Amount>",
        "<Amount>1 234 567 890.12</Amount>",
        "<Date>2026-01-02</Date>",
        "<DateTime>2026-01-02T10:30:00.123456+01:00</DateTime>",
        "<Stamp>20260102103000123</Stamp>",
        "<Version>17.2.0.1</Version>",
        "<E>version 17.2.0.1</E>",
        "<E PayloadVersion='1.2.3.4'/>",
        "<AirportName>Charles de Gaulle</AirportName>",
        "<Station><Name>Paris</Name></Station>",
        "<Airport><CityName>Berlin</CityName></Airport>",
        "<PaxSegment><MarketingCarrierInfo><Name>Lufthansa</Name></MarketingCarrierInfo></PaxSegment>",
        "<IdentityDoc><IdentityDocTypeCode>PT</IdentityDocTypeCode></IdentityDoc>",
        "<E>550e8400-e29b-41d4-a716-446655440000</E>",
        "<E>12:30:45 and 10:20</E>",
        "<E>and/or, a @ b, 50 % + 3, C++ a::b</E>",
        "<E>urn:iata:2019.2 http://www.iata.org/IATA/2015/00/2019.2/IATA_OrderViewRS</E>",
        "<E>52.520006599998799</E>",
        "<E>DE89 3704 0044 0532 0130 01</E>",
        "<E>2.16.840.1.113883.10.20</E>",
        "<Description>Change fee 50 EUR, 2 pieces of 23 kg</Description>",
        "<Birthdate/>",
        "<GivenName>  </GivenName>",
    ],
)
def test_what_is_not_personal_stays(xml: str) -> None:
    text, pseudonyms = masked(xml)
    assert pseudonyms.count == 0
    assert text == etree.tostring(etree.fromstring(xml), encoding="unicode")


def test_the_same_value_has_the_same_pseudonym_and_others_have_others() -> None:
    text, pseudonyms = masked("<E><A>x@y.org</A><B>see x@y.org</B><C>z@y.org</C></E>")
    assert text == "<E><A>[EMAIL_1]</A><B>see [EMAIL_1]</B><C>[EMAIL_2]</C></E>"
    assert pseudonyms.count == 3
    assert pseudonyms.restore("[EMAIL_2] and [EMAIL_1]") == "z@y.org and x@y.org"


def test_a_text_of_the_source_that_looks_like_a_pseudonym_survives() -> None:
    text, pseudonyms = masked("<E a='[EMAIL_2]'>[EMAIL_1] x@y.org, z@y.org</E>")
    assert "x@y.org" not in text
    assert pseudonyms.restore(text) == '<E a="[EMAIL_2]">[EMAIL_1] x@y.org, z@y.org</E>'


def test_an_unknown_pseudonym_is_left_alone() -> None:
    assert masked("<E>x@y.org</E>")[1].restore("[EMAIL_9] [NAME_1] [x]") == "[EMAIL_9] [NAME_1] [x]"


def test_what_follows_the_subtree_is_not_touched() -> None:
    document = etree.fromstring("<D><E>x@y.org</E>z@y.org</D>")
    Masker().mask(document[0])
    assert etree.tostring(document) == b"<D><E>[EMAIL_1]</E>z@y.org</D>"


def test_an_unresolved_entity_is_no_obstacle() -> None:
    parser = etree.XMLParser(resolve_entities=False)
    root = etree.fromstring("<!DOCTYPE E [<!ENTITY e 'x'>]><E>a&e;x@y.org</E>", parser)
    assert Masker().mask(root).count == 1


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 1_000_000 + "@",
        "a@" * 500_000,
        "a.a-" * 250_000 + "@",
        "1 " * 500_000,
        "411 " * 250_000,
        "1" * 1_000_000,
        "+1" * 500_000,
        "+1 (" * 250_000,
        "1.1.1." * 160_000,
        "a:" * 500_000,
        "0:" * 500_000,
        "AA00" * 250_000,
        "AA00 " * 200_000,
        "A/" * 500_000,
        "AA/AA" + "A" * 1_000_000,
        "://" * 330_000 + "@",
        "DOCS/P/AAA/" * 90_000,
        "CTCE " * 200_000,
        "tel " * 250_000,
        "tel 1" * 200_000,
        "[" * 1_000_000,
        "123-45-" * 140_000,
    ],
)
def test_a_hostile_text_of_a_megabyte_is_read_in_seconds(hostile: str) -> None:
    """Seconds of a processor: what else this machine does is no matter."""
    element = etree.Element("E")
    element.text = hostile
    began = time.thread_time()
    pseudonyms = Masker().mask(element)
    assert pseudonyms.restore(element.text) == hostile
    assert time.thread_time() - began < 10


pieces = st.sampled_from(
    [
        "x@y.org",
        "4111 1111 1111 1111",
        "+49 30 1234567",
        "[EMAIL_1]",
        "[CARD_1]",
        "[",
        "]",
        "EMAIL_1",
        " ",
        "203.0.113.9",
        "https://a:b@c.de/",
        "AB/CD MR",
        "DE89370400440532013000",
        "1",
        "-",
    ]
)
texts = st.lists(pieces | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=5))


@given(texts.map("".join), texts.map("".join))
def test_restoring_what_was_masked_gives_the_source_back(text: str, attribute: str) -> None:
    root = etree.Element("Individual", Note=attribute, Surname=attribute)
    name = etree.SubElement(root, "GivenName")
    name.text, name.tail = attribute, text
    before = [name.text, name.tail, root.get("Note"), root.get("Surname")]
    pseudonyms = Masker().mask(root)
    after = [name.text, name.tail, root.get("Note"), root.get("Surname")]
    assert [pseudonyms.restore(value) for value in after] == before


@given(texts.map("".join))
def test_what_is_found_lies_in_order_and_apart(text: str) -> None:
    spans = find_personal_data(text)
    edges = [edge for start, end, _ in spans for edge in (start, end)]
    assert edges == sorted(edges)
    assert all(start < end for start, end, _ in spans)


@given(
    st.text(st.sampled_from("0123456789+- ()[]ABCDtel@.:/"), max_size=12)
    | texts.map("".join)
    | st.text("0123456789abcdef:.", max_size=45)
    | st.from_regex(r"[A-Z]{2}[0-9]{2}( ?[A-Z0-9]){9,14}", fullmatch=True)
    | st.from_regex(r"(tel|fax:|ctcm) ?[+(]?[0-9]([ ().-]{0,2}[0-9]){4,9}", fullmatch=True)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.+-]{0,24}Z?)?", fullmatch=True)
)
@example("+12345678")
@example("1.1.1.1")
@example("1:2:3:4:5:6:7:8")
@example("2026-01-31T12:00:00.123456789-01:00")
def test_a_text_that_is_not_looked_into_holds_nothing(text: str) -> None:
    if not may_hold_personal_data(text):
        with mock.patch("thresher.llm.personal_text.may_hold_personal_data", return_value=True):
            assert find_personal_data(text) == []


def luhn_digit(digits: str) -> str:
    doubled = [int(digit) * (2 - index % 2) for index, digit in enumerate(reversed(digits))]
    return str(-sum(value - 9 * (value > 9) for value in doubled) % 10)


@given(st.text("0123456789", min_size=14, max_size=14), st.sampled_from(["", " ", "-"]))
def test_a_card_is_masked_with_its_check_digit_and_stays_with_any_other(digits: str, separator: str) -> None:
    stem = f"4{digits}"
    right = luhn_digit(stem)
    wrong = str((int(right) + 1) % 10)
    kinds = []
    for last in (right, wrong):
        number = stem + last
        text = separator.join(number[start : start + 4] for start in range(0, 16, 4))
        kinds.append([kind for start, end, kind in find_personal_data(text) if (start, end) == (0, len(text))])
    assert kinds[0] == ["CARD"]
    assert kinds[1] == []
