"""Masks personal data before a subtree leaves the machine, by pseudonyms that can be taken back.

What an element or attribute holds by its name is masked as a whole (``personal_fields``); everywhere else, in texts,
tails, attributes, comments, CDATA and processing instructions, what has the form of personal data
(``personal_text``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from lxml import etree

from thresher.llm.personal_fields import Kind, Rule, rules_of
from thresher.llm.personal_text import find_personal_data, may_hold_personal_data

_PSEUDONYM = re.compile(r"\[[A-Z]{2,12}_[0-9]{1,9}\]")
_ANCESTORS_LOOKED_AT = 8


class Pseudonyms:
    """What stands for what within one item: the same value has the same pseudonym, ``[EMAIL_1]``.

    ``count`` is how many places were masked. A text of the source that looks like a pseudonym is never used as
    one, so that it survives.
    """

    def __init__(self, source: Callable[[], str] = str) -> None:
        """``source`` is the text of the subtree as it was before anything in it was masked, asked for once."""
        self.count = 0
        self._source = source
        self._by_value: dict[str, str] = {}
        self._by_pseudonym: dict[str, str] = {}
        self._last: dict[Kind, int] = {}
        self._reserved: frozenset[str] | None = None

    def restore(self, text: str) -> str:
        """The text with every pseudonym replaced by what it stands for. For values, not for JSON or XML."""
        if "_" not in text or "[" not in text or not self._by_pseudonym:
            return text
        return _PSEUDONYM.sub(lambda match: self._by_pseudonym.get(match[0], match[0]), text)

    def of(self, value: str, kind: Kind) -> str:
        """The pseudonym of a value of the subtree."""
        self.count += 1
        known = self._by_value.get(value)
        if known is not None:
            return known
        if self._reserved is None:  # nothing is masked yet
            self._reserved = frozenset(_PSEUDONYM.findall(self._source()))
        pseudonym = self._next(kind)
        while pseudonym in self._reserved:
            pseudonym = self._next(kind)
        self._by_value[value] = pseudonym
        self._by_pseudonym[pseudonym] = value
        return pseudonym

    def _next(self, kind: Kind) -> str:
        self._last[kind] = self._last.get(kind, 0) + 1
        return f"[{kind}_{self._last[kind]}]"


class Spot(NamedTuple):
    """A text that is looked at: that of a node (``attribute`` empty), one after it (None), or one of its attributes.

    ``kind`` is what it is by the names of its place; ``name`` is the local name of its element or attribute, empty for
    what follows a node.
    """

    node: etree._Element
    attribute: str | None
    text: str
    kind: Kind | None
    name: str


class Masker:
    """Masks subtrees in place. Stateless: one serves all threads."""

    def mask(self, root: etree._Element) -> Pseudonyms:
        """Replaces all personal data in a subtree, but in nothing that follows its end tag."""
        pseudonyms = Pseudonyms(lambda: etree.tostring(root, encoding="unicode", with_tail=False))
        for node, attribute, text, kind, name in spots(root):
            masked = hidden_in(text, kind, name, pseudonyms)
            if masked is text:
                continue
            if attribute:
                node.set(attribute, masked)
            elif attribute is None:
                node.tail = masked
            else:
                node.text = masked
        return pseudonyms


def spots(root: etree._Element) -> Iterator[Spot]:
    """All texts of a subtree that are not blank, in the order in which they get their pseudonyms."""
    for node in root.iter():
        tag: object = node.tag  # a function where the node is a comment, an instruction or an entity
        if isinstance(tag, str):
            yield from _spots_of(node, tag)
        elif tag is not etree.Entity and (text := node.text) and not text.isspace():
            yield Spot(node, "", text, None, "")
        if node is not root and (tail := node.tail) and not tail.isspace():
            yield Spot(node, None, tail, None, "")


def _spots_of(element: etree._Element, tag: str) -> Iterator[Spot]:
    """The text at the beginning of an element, then its attributes."""
    if (text := element.text) and not text.isspace():
        yield Spot(element, "", text, _kind_of(tag, element), _local_name(tag))
    for name, value in element.items():
        if value and not value.isspace():
            yield Spot(element, name, value, _kind_of(name, element), _local_name(name))  # type: ignore[arg-type]


def hidden_in(text: str, kind: Kind | None, name: str, pseudonyms: Pseudonyms) -> str:
    """A text with the personal data in it replaced; the very same object where there is none.

    ``kind``, ``name``: see ``Spot``.
    """
    if kind is not None:
        return _replaced(text, kind, pseudonyms)
    return _masked(text, pseudonyms, name) if may_hold_personal_data(text) else text


@lru_cache(maxsize=8192)
def _local_name(tag: str) -> str:
    return tag[tag.rfind("}") + 1 :]


@lru_cache(maxsize=8192)
def _rules(tag: str) -> Sequence[Rule]:
    """What the name of an element or attribute says of its value."""
    return rules_of(_local_name(tag))


def _kind_of(name: str, element: etree._Element) -> Kind | None:
    """What a value is by its name, and by the names around it where that alone does not tell."""
    rules = _rules(name)
    return next((rule.kind for rule in rules if not rule.within or _stands_within(element, rule)), None)


def _stands_within(element: etree._Element, rule: Rule) -> bool:
    """Whether the element or one of its nearest ancestors has one of the rule's names."""
    place: etree._Element | None = element
    for _ in range(_ANCESTORS_LOOKED_AT):
        if place is None:
            return False
        if _folded(place.tag) in rule.within:
            return True
        place = place.getparent()
    return False


@lru_cache(maxsize=8192)
def _folded(tag: str) -> str:
    """A local name as rules write it."""
    return _local_name(tag).lower().replace("_", "").replace("-", "")


def _replaced(text: str, kind: Kind, pseudonyms: Pseudonyms) -> str:
    """A whole value replaced, the white space around it kept; blanks alone stay."""
    value = text.strip()
    if not value:
        return text
    start = text.index(value)
    return f"{text[:start]}{pseudonyms.of(value, kind)}{text[start + len(value) :]}"


def _masked(text: str, pseudonyms: Pseudonyms, name: str) -> str:
    """A text with the personal data in it replaced; the very same object where there is none."""
    spans = find_personal_data(text)
    if not spans:
        return text
    pieces, position = [], 0
    for start, end, kind in spans:
        if kind is Kind.IP and "version" in name.lower():
            continue
        pieces += [text[position:start], pseudonyms.of(text[start:end], kind)]
        position = end
    return "".join((*pieces, text[position:])) if pieces else text
