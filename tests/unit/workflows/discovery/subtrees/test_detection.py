"""What a document is: detection from the first elements, without guessing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from thresher.workflows.discovery.subtrees import Detection, Recognition, SourceDocument, Survey, recognise, survey

OpenBytes = Callable[..., SourceDocument]
Look = Callable[[SourceDocument], Recognition | Survey]


@pytest.fixture(params=[survey, recognise])
def look(request: pytest.FixtureRequest) -> Look:
    """Both ways to look at a document."""
    found: Look = request.param
    return found


NDC = "http://www.iata.org/IATA"
V19_2 = f"{NDC}/2015/00/2019.2/IATA_OrderViewRS"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
CASES = {
    "17.2 by namespace": (f'<OrderViewRS xmlns="{NDC}/EDIST/2017.2" Version="5.000"/>', "OrderViewRS", "17.2"),
    "18.1": (f'<OrderViewRS xmlns="{NDC}/2015/00/2018.1/OrderViewRS"/>', "OrderViewRS", "18.1"),
    "19.2 drops its prefix": (
        f'<IATA_OrderViewRS xmlns="{V19_2}"/>',
        "OrderViewRS",
        "19.2",
    ),
    "namespace before version": (f'<OrderViewRS xmlns="{NDC}/EDIST/2017.2" Version="18.1"/>', "OrderViewRS", "17.2"),
    "payload attributes": (
        (
            f'<IATA_OrderViewRS xmlns="{NDC}/EASD/x"><PayloadAttributes><VersionNumber>2021.3</VersionNumber>'
            "</PayloadAttributes></IATA_OrderViewRS>"
        ),
        "OrderViewRS",
        "21.3",
    ),
    "payload attributes of 18.1": (
        f'<OrderViewRS xmlns="{NDC}/x"><PayloadAttributes><Version>18.1</Version></PayloadAttributes></OrderViewRS>',
        "OrderViewRS",
        "18.1",
    ),
    "root attribute": (f'<OrderViewRS xmlns="{NDC}/EDIST" Version="IATA2017.2"/>', "OrderViewRS", "17.2"),
    "a schema number is no version": (f'<OrderViewRS xmlns="{NDC}/EDIST" Version="5.000"/>', "OrderViewRS", ""),
    "a reference version is none": (
        (
            f'<OrderViewRS xmlns="{NDC}/EDIST"><Document><ReferenceVersion>17.2</ReferenceVersion></Document>'
            "</OrderViewRS>"
        ),
        "OrderViewRS",
        "",
    ),
    "21.3 by structure": (
        (
            '<IATA_OrderViewRS xmlns="http://www.iata.org/IATA/2015/EASD/00/IATA_x"><Response><DataLists>'
            "<DatedMarketingSegmentList/></DataLists></Response></IATA_OrderViewRS>"
        ),
        "OrderViewRS",
        "21.3",
    ),
    "17.2 by structure": (
        f'<OrderViewRS xmlns="{NDC}/EDIST"><DataLists><PassengerList/></DataLists></OrderViewRS>',
        "OrderViewRS",
        "17.2",
    ),
    "within SOAP": (
        (
            f'<s:Envelope xmlns:s="{SOAP}"><s:Header><a/></s:Header><s:Body><OrderViewRS xmlns="{NDC}/EDIST/2017.2"/>'
            "</s:Body></s:Envelope>"
        ),
        "OrderViewRS",
        "17.2",
    ),
    "unknown XML": ('<catalog Version="17.2"><PassengerList/></catalog>', "catalog", ""),
    "unknown XML in an envelope": ('<Envelope><Body><Thing Version="17.2"/></Body></Envelope>', "Envelope", ""),
}


@pytest.mark.parametrize(("content", "root", "version"), CASES.values(), ids=CASES.keys())
def test_root_and_version(content: str, root: str, version: str, open_bytes: OpenBytes, look: Look) -> None:
    found = look(open_bytes(content.encode())).detection
    assert (found.message_root, found.spec_version) == (root, version)


SENDERS = {
    "owner of the order": ('<Response><Offer Owner="XX"/><Order Owner="KW"/></Response>', "KW"),
    "owner code of the order": ("<Response><Order><OwnerCode>QR</OwnerCode></Order></Response>", "QR"),
    "airline that sends": (
        "<Party><Sender><ORA_Sender><AirlineID>9A</AirlineID></ORA_Sender></Sender></Party><Offer Owner='XX'/>",
        "9A",
    ),
    "airline that receives": ("<Party><Recipient><AirlineID>9A</AirlineID></Recipient></Party>", ""),
    "owner of an offer": ("<Offer><OwnerCode>BA</OwnerCode></Offer>", "BA"),
    "a placeholder is no code": ("<Order><OwnerCode>{{AIRLINE_ID}}</OwnerCode></Order>", ""),
    "none": ("<DataLists/>", ""),
}


@pytest.mark.parametrize(("content", "sender"), SENDERS.values(), ids=SENDERS.keys())
def test_sender(content: str, sender: str, open_bytes: OpenBytes, look: Look) -> None:
    document = f'<IATA_OrderViewRS xmlns="{V19_2}">{content}</IATA_OrderViewRS>'
    assert look(open_bytes(document.encode())).detection.sender == sender


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ndc/AirShoppingRS_19.2_my_ota.xml", ("AirShoppingRS", "19.2", "9A")),
        ("ndc/OrderViewRS_17.2_ticketme.xml", ("OrderViewRS", "17.2", "KW")),
        ("ndc/OfferPriceRS_17.2_ticketme.xml", ("OfferPriceRS", "17.2", "KW")),
        ("ndc/OrderCreateRQ_19.2_athena.xml", ("OrderCreateRQ", "19.2", "")),
        ("ndc/OrderCreateRQ_17.2_sandbox.xml", ("OrderCreateRQ", "17.2", "C9")),
        ("ndc/AirShoppingRS_mixvel_1ADT.xml", ("Mixvel_AirShoppingRS", "", "TCH")),
        ("iso20022/seev031_cdata.xml", ("Envelope", "", "")),
        ("world/factbook.xml", ("mondial", "", "")),
    ],
)
def test_real_documents(name: str, expected: tuple[str, str, str], data_folder: Path, look: Look) -> None:
    found = look(SourceDocument.open(data_folder / name)).detection
    assert (found.message_root, found.spec_version, found.sender) == expected


def test_unknown_documents_have_their_namespace(open_bytes: OpenBytes, look: Look) -> None:
    assert look(open_bytes(b'<a xmlns="urn:x"/>')).detection == Detection("a", namespace="urn:x")
