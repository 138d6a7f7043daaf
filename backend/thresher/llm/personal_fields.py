"""Elements and attributes that hold personal data by their name, in NDC messages and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Kind(StrEnum):
    """What a value is; the word in its pseudonym."""

    ADDRESS = "ADDRESS"
    ACCOUNT = "ACCOUNT"
    BIRTHDATE = "BIRTHDATE"
    CARD = "CARD"
    DOCUMENT = "DOCUMENT"
    EMAIL = "EMAIL"
    IP = "IP"
    LOGIN = "LOGIN"
    LOYALTY = "LOYALTY"
    NAME = "NAME"
    PHONE = "PHONE"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a name says of its value. ``within``: only below an element of one of these names; empty: anywhere."""

    kind: Kind
    within: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSONS = _words(
    "pax passenger paxname passengername individual individualname person personname contact contactinfo "
    "contactinformation traveler traveller customer guest cardholder patient patientrole assignedperson "
    "guardianperson relatedperson associatedperson informant author employee subscriber dbtr cdtr ultmtdbtr "
    "ultmtcdtr debtor creditor ctctdtls primarycontact emergencycontact ticketdocinfo paymentcard"
)
_ADDRESSES = _words(
    "address postaladdress addresscontact structuredaddress pstladr addr contactaddress billingaddress "
    "homeaddress residentialaddress deliveryaddress paymentaddress"
)
_PHONES = _words("phone telephone mobile phonecontact contactphone voice fax cellphone")
_DOCUMENTS = _words("identitydoc identitydocument passport foid visa nationalid drivinglicense driverlicense")
_LOYALTY = _words(
    "loyaltyprogramaccount loyaltyprogram loyalty frequentflyer frequenttraveler custloyalty fqtv fqtvinfo"
)
_CARDS = _words("paymentcard card creditcard debitcard carddetails")
_EMAILS = _words("email emailaddress emailcontact")

_ANYWHERE: dict[Kind, str] = {
    Kind.NAME: (
        "givenname givennames surname firstname firstnames lastname middlename middlenames familyname maidenname "
        "birthname forename forenames fullname passengername paxname travelername cardholdername nameoncard "
        "holdername contactname individualname personname mothersmaidenname patientname guestname"
    ),
    Kind.BIRTHDATE: "birthdate dateofbirth dob birthdt birthday bdate",
    Kind.ADDRESS: (
        "street streetname streettext streetaddress streetaddressline streetnmbr streetnumber strtnm addressline "
        "addressline1 addressline2 addrline adrline postalcode postcode pstcd zip zipcode buildingnumber bldgnb "
        "buildingroomtext buildingname pobox postofficebox pobcode"
    ),
    Kind.PHONE: (
        "phone phonenumber phonenumbertext telephone "
        "telephonenumber mobile mobilenumber mobilephone cellphone fax faxnumber phnenb "
        "mobnb faxnb phoneno telnumber"
    ),
    Kind.EMAIL: "email emailaddress emailaddresstext emailadr emailaddr electronicmail",
    Kind.CARD: (
        "cardnumber cardnum creditcardnumber primaryaccountnumber cardsecuritycode cvv cvc cvv2 seriescode "
        "cardseriescode maskedcardnumber"
    ),
    Kind.DOCUMENT: (
        "documentnumber docnumber documentno foid visanumber ssn socialsecuritynumber nationalid nationalidnumber "
        "driverslicense driverlicensenumber licencenumber knowntravelernumber redressnumber redressno"
    ),
    Kind.LOYALTY: "loyaltynumber frequentflyernumber ffnumber fqtvnumber loyaltyaccountnumber membershipnumber",
    Kind.ACCOUNT: "iban accountnumber bankaccountnumber bban",
    Kind.IP: "ipaddress ipaddresstext ipaddr clientip",
}
_WITHIN: tuple[tuple[str, Rule], ...] = (
    ("name nm given family first last middle", Rule(Kind.NAME, _PERSONS)),
    ("city cityname cityname town townname twnnm line line1 line2", Rule(Kind.ADDRESS, _ADDRESSES)),
    ("number value text localnumber areacode", Rule(Kind.PHONE, _PHONES)),
    ("id number value identitydocid", Rule(Kind.DOCUMENT, _DOCUMENTS)),
    ("id number accountid accountnumber value", Rule(Kind.LOYALTY, _LOYALTY)),
    ("number", Rule(Kind.CARD, _CARDS)),
    ("value address", Rule(Kind.EMAIL, _EMAILS)),
    ("value", Rule(Kind.BIRTHDATE, _words("birthtime birthdate"))),
)
_NUMBER_ENDINGS = ("id", "number", "no", "nbr", "num")


@lru_cache(maxsize=8192)
def rules_of(name: str) -> tuple[Rule, ...]:
    """The rules for a local name (any case, ``-`` and ``_`` ignored), those bound to a place before the others."""
    folded = name.lower().replace("_", "").replace("-", "")
    return tuple(_rules(folded))


def _rules(folded: str) -> Iterator[Rule]:
    yield from (rule for names, rule in _WITHIN if folded in names.split())
    if folded.startswith(("identitydoc", "passport")) and (
        folded.endswith(_NUMBER_ENDINGS) or folded in ("identitydoc", "identitydocument", "passport")
    ):
        yield Rule(Kind.DOCUMENT)
    yield from (Rule(kind) for kind, names in _ANYWHERE.items() if folded in names.split())
