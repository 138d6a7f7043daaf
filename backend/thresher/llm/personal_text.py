"""Personal data in free text, by its form. Every pattern takes time linear in the text, whatever the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from thresher.llm.personal_fields import Kind

Span = tuple[int, int, Kind]
"""Start, end and kind of a piece of a text."""

MIN_CHARACTERS = 6  # a@b.cd
_SHORTEST_NUMBER = 9  # +12345678
_SHORTEST_IBAN = 15
_SEVEN_DIGITS = re.compile(r"\d(?:[ ().-]{0,2}\d){6}")  # every phone, card and social security number has them
_LIKE_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?")

_USER_INFO = re.compile(r"(?<=://)[^\s/@?#<>\"',{}\[\]]++(?=@)")
_EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]++@[\w-]++(?:\.[\w-]++)++")
_CONTACT_EMAIL = re.compile(r"(?<=CTCE )[^\n]{0,12}?(?<![\w.+-])([\w.+-]++//[\w.-]++)")  # SITA writes // for @
_DIGITS = re.compile(r"(?<!\d)(?<!\d[.,])\d(?:[ -]?+\d){12,}+")
_TWO_DIGITS = re.compile(r"\d[ -]?\d")  # without them no number here is found
_DIGIT_GROUP = re.compile(r"\d+")
_INTERNATIONAL_PHONE = re.compile(r"\+\d(?:[ ().-]{0,2}\d){7,14}(?!\d)")
_NATIONAL_PHONE = re.compile(r"(?<![\d-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])")
_NAMED_PHONE = re.compile(
    r"\b(?:tel|telephone|phone|mobile|mob|cell|fax|ctc[bhmt])\b[^\n]{0,16}?"
    r"(?<![\w+])(\+?\(?\d(?:[ ().-]{0,2}\d){6,14})(?!\d)",
    re.IGNORECASE,
)
_SOCIAL_SECURITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_IP_V4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IP_V6 = re.compile(r"(?<![\w:.])[0-9a-fA-F]{0,4}+:[0-9a-fA-F:]{4,34}+(?![\w:])")
_VERSION_BEFORE = re.compile(r"(?:\bv|version|release|rev)[\s.:=]*$", re.IGNORECASE)
_TRAVEL_DOCUMENT = re.compile(  # SSR DOCS: type/issuer/number/nationality/born/sex/expires/surname/given names
    r"\bDOCS[^/\n]{0,24}/[A-Z]{1,2}/[A-Z]{2,3}/([A-Z0-9]{4,20})/[A-Z]{2,3}/(\d{2}[A-Z]{3}\d{2,4})/[A-Z]{1,2}"
    r"/(?:\d{2}[A-Z]{3}\d{2,4})?/([A-Z' -]{1,64})/([A-Z' -]{1,64})"
)
_TICKET_NAME = re.compile(  # MUSTERMANN/ERIKA MRS, or MUSTERMANN/ERIKAMRS
    r"(?<![\w/])[A-Z][A-Z'-]++/(?:[A-Z'-]++ (?:MR|MRS|MS|MISS|MSTR|DR|CHD|INF)|[A-Z'-]{2,40}(?:MR|MRS|MS|MISS|MSTR))\b"
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # the digit sum of twice the digit


Finder = Callable[[str], Iterable[Span]]


def may_hold_personal_data(text: str) -> bool:
    """Whether a text is worth a closer look: most are not, and this costs a tenth of it.

    Everything that is found has one of these: ``@`` or ``/``, seven digits in a row, an IBAN's form, three points or
    the colons of an IPv6 address. A date or a time of ISO 8601 has nothing but its digits.
    """
    length = len(text)
    if length < MIN_CHARACTERS or text.isalpha():
        return False
    if "@" in text or "/" in text:
        return True
    if length >= _SHORTEST_NUMBER:
        if _SEVEN_DIGITS.search(text):
            return _MOMENT.fullmatch(text) is None
        if length >= _SHORTEST_IBAN and _LIKE_IBAN.search(text):
            return True
    return text.count(".") >= 3 or "::" in text or text.count(":") >= 7


def find_personal_data(text: str) -> list[Span]:
    """Pieces of a text that are personal data by their form, in order, none overlapping another.

    Earlier finders win: inside a card number no phone is looked for.
    """
    if not may_hold_personal_data(text):
        return []
    spans: list[Span] = []
    for may_apply, find in _FINDERS if _TWO_DIGITS.search(text) else _FINDERS_WITHOUT_DIGITS:
        if may_apply(text) and (found := list(find(text))):
            spans.extend(found)
            text = _blanked(text, found)
    spans.sort()
    return spans


def _blanked(text: str, spans: list[Span]) -> str:
    """The text with its found pieces struck out, so that no later finder looks into them."""
    pieces, position = [], 0
    for start, end, _ in spans:
        pieces += [text[position:start], "\0" * (end - start)]
        position = end
    return "".join((*pieces, text[position:]))


def _all(pattern: re.Pattern[str], kind: Kind) -> Finder:
    """Finds every match; where the pattern has a group, the group only."""
    group = 1 if pattern.groups else 0

    def find(text: str) -> Iterator[Span]:
        return ((match.start(group), match.end(group), kind) for match in pattern.finditer(text))

    return find


def _travel_documents(text: str) -> Iterator[Span]:
    for match in _TRAVEL_DOCUMENT.finditer(text):
        kinds = (Kind.DOCUMENT, Kind.BIRTHDATE, Kind.NAME, Kind.NAME)
        yield from ((*match.span(group), kind) for group, kind in enumerate(kinds, start=1))


def _cards(text: str) -> Iterator[Span]:
    for match in _DIGITS.finditer(text):
        if _is_card(_digits_of(match[0])):
            if not _is_part_of_identifier(match):
                yield (*match.span(), Kind.CARD)
        else:
            yield from _cards_among_groups(match)


def _is_part_of_identifier(match: re.Match[str]) -> bool:
    """Whether digits with dashes go on in letters, as in a UUID."""
    start, end = match.span()
    around = match.string[max(start - 1, 0) : start] + match.string[end : end + 1]
    return "-" in match[0] and any(character.isalpha() for character in around)


def _cards_among_groups(match: re.Match[str]) -> Iterator[Span]:
    """Cards with another number before or after them: up to five groups of three digits and more."""
    text, offset = match[0], match.start()
    groups = [group.span() for group in _DIGIT_GROUP.finditer(text)]
    first = 0
    while first < len(groups):
        for last in range(first, min(first + 5, len(groups))):
            start, end = groups[first][0], groups[last][1]
            if end - groups[last][0] < 3:
                break
            if end - start >= 13 and _is_card(_digits_of(text[start:end])):
                yield offset + start, offset + end, Kind.CARD
                first = last
                break
        first += 1


def _digits_of(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _is_card(digits: str) -> bool:
    """Whether a number has the length, the issuer's range and the check digit of a payment card."""
    if not 13 <= len(digits) <= 19 or not _is_issued(digits):
        return False
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def _is_issued(digits: str) -> bool:
    """Airline plan 1, Mir and Mastercard 2, American Express, Diners, JCB 3, Visa 4, Mastercard 5, others 6."""
    if digits[0] == "1":
        return len(digits) == 15
    return digits[0] in "3456" or 2200 <= int(digits[:4]) <= 2720


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        ends = (end for end in range(match.end(), match.start() + 14, -1) if not text[end : end + 1].isalnum())
        end = next((end for end in ends if _is_iban(text[match.start() : end])), None)
        if end is not None:
            yield match.start(), end, Kind.ACCOUNT


def _is_iban(text: str) -> bool:
    """ISO 13616: the first four characters moved to the end, letters as numbers, modulo 97 is 1."""
    compact = text.replace(" ", "")
    moved = compact[4:] + compact[:4]
    return 15 <= len(compact) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _addresses_v4(text: str) -> Iterator[Span]:
    for match in _IP_V4.finditer(text):
        before = text[max(match.start() - 12, 0) : match.start()]
        if _is_ip(match[0]) and not _VERSION_BEFORE.search(before):
            yield (*match.span(), Kind.IP)


def _addresses_v6(text: str) -> Iterator[Span]:
    return ((*match.span(), Kind.IP) for match in _IP_V6.finditer(text) if _is_ip(match[0].rstrip(":")))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _may_hold_national_phone(text: str) -> bool:
    return len(text) >= 12 and ("(" in text or text.count("-") >= 2 or text.count(".") >= 2 or text.count(" ") >= 2)


def _may_hold_named_phone(text: str) -> bool:
    if len(text) < 10 or text.isdigit():
        return False
    folded = text.lower()
    return any(word in folded for word in ("tel", "phone", "mob", "cell", "fax", "ctc"))


_Finders = tuple[tuple[Callable[[str], bool], Finder], ...]

_FINDERS_WITHOUT_DIGITS: _Finders = (
    (lambda text: "@" in text and "://" in text, _all(_USER_INFO, Kind.LOGIN)),
    (lambda text: "@" in text, _all(_EMAIL, Kind.EMAIL)),
    (lambda text: "CTCE" in text, _all(_CONTACT_EMAIL, Kind.EMAIL)),
    (lambda text: "DOCS" in text, _travel_documents),
    (lambda text: "/" in text, _all(_TICKET_NAME, Kind.NAME)),
    (lambda text: text.count(".") >= 3, _addresses_v4),
    (lambda text: text.count(":") >= 2, _addresses_v6),
)
_FINDERS: _Finders = (
    *_FINDERS_WITHOUT_DIGITS,
    (lambda text: len(text) >= 15, _ibans),
    (lambda text: len(text) >= 13, _cards),
    (lambda text: "+" in text, _all(_INTERNATIONAL_PHONE, Kind.PHONE)),
    (_may_hold_national_phone, _all(_NATIONAL_PHONE, Kind.PHONE)),
    (_may_hold_named_phone, _all(_NAMED_PHONE, Kind.PHONE)),
    (lambda text: text.count("-") >= 2, _all(_SOCIAL_SECURITY, Kind.DOCUMENT)),
)
