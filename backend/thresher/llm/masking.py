"""Masks personal data before a subtree leaves the machine, by pseudonyms that can be taken back.

What an element or attribute holds by its name is masked as a whole (``personal_fields``); everywhere else, in texts,
tails, attributes, comments, CDATA and processing instructions, what has the form of personal data
(``personal_text``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

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

    def __init__(self) -> None:
        self.count = 0
        self._by_value: dict[str, str] = {}
        self._by_pseudonym: dict[str, str] = {}
        self._last: dict[Kind, int] = {}
        self._reserved: frozenset[str] | None = None

    def restore(self, text: str) -> str:
        """The text with every pseudonym replaced by what it stands for. For values, not for JSON or XML."""
        if "_" not in text or "[" not in text or not self._by_pseudonym:
            return text
        return _PSEUDONYM.sub(lambda match: self._by_pseudonym.get(match[0], match[0]), text)

    def of(self, value: str, kind: Kind, root: etree._Element) -> str:
        """The pseudonym of a value of the subtree ``root``."""
        self.count += 1
        known = self._by_value.get(value)
        if known is not None:
            return known
        if self._reserved is None:  # nothing is masked yet: the subtree still is as the source wrote it
            self._reserved = frozenset(_PSEUDONYM.findall(etree.tostring(root, encoding="unicode", with_tail=False)))
        pseudonym = self._next(kind)
        while pseudonym in self._reserved:
            pseudonym = self._next(kind)
        self._by_value[value] = pseudonym
        self._by_pseudonym[pseudonym] = value
        return pseudonym

    def _next(self, kind: Kind) -> str:
        self._last[kind] = self._last.get(kind, 0) + 1
        return f"[{kind}_{self._last[kind]}]"


class Masker:
    """Masks subtrees in place. Stateless: one serves all threads."""

    def mask(self, root: etree._Element) -> Pseudonyms:
        """Replaces all personal data in a subtree, but in nothing that follows its end tag."""
        pseudonyms = Pseudonyms()
        for node in root.iter():
            tag: object = node.tag  # a function where the node is a comment, an instruction or an entity
            text, tail = node.text, node.tail
            if text and not text.isspace() and tag is not etree.Entity:
                rules = _rules(tag) if isinstance(tag, str) else ()
                kind = _kind(rules, node) if rules else None
                if kind is not None:
                    node.text = _replaced(text, kind, root, pseudonyms)
                elif may_hold_personal_data(text):
                    node.text = _masked(text, root, pseudonyms, name=tag if isinstance(tag, str) else "")
            if isinstance(tag, str) and (attributes := node.items()):
                self._mask_attributes(node, attributes, root, pseudonyms)  # type: ignore[arg-type]  # str from lxml
            if tail and not tail.isspace() and node is not root:
                node.tail = _masked(tail, root, pseudonyms)
        return pseudonyms

    def _mask_attributes(
        self,
        element: etree._Element,
        attributes: Sequence[tuple[str, str]],
        root: etree._Element,
        pseudonyms: Pseudonyms,
    ) -> None:
        for name, value in attributes:
            rules = _rules(name)
            kind = _kind(rules, element) if rules else None
            if kind is not None and not value.isspace() and value:
                element.set(name, _replaced(value, kind, root, pseudonyms))
            elif may_hold_personal_data(value):
                masked = _masked(value, root, pseudonyms, name=name)
                if masked is not value:
                    element.set(name, masked)


@lru_cache(maxsize=8192)
def _local_name(tag: str) -> str:
    return tag[tag.rfind("}") + 1 :]


@lru_cache(maxsize=8192)
def _rules(tag: str) -> Sequence[Rule]:
    """What the name of an element or attribute says of its value."""
    return rules_of(_local_name(tag))


def _kind(rules: Sequence[Rule], element: etree._Element) -> Kind | None:
    """What a value is by the rules for its name, and by the names around it where the name alone does not tell."""
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


def _replaced(text: str, kind: Kind, root: etree._Element, pseudonyms: Pseudonyms) -> str:
    """A whole value replaced, the white space around it kept."""
    value = text.strip()
    start = text.index(value)
    return f"{text[:start]}{pseudonyms.of(value, kind, root)}{text[start + len(value) :]}"


def _masked(text: str, root: etree._Element, pseudonyms: Pseudonyms, name: str = "") -> str:
    """A text with the personal data in it replaced; the very same object where there is none."""
    spans = find_personal_data(text)
    if not spans:
        return text
    pieces, position = [], 0
    for start, end, kind in spans:
        if kind is Kind.IP and "version" in name.lower():
            continue
        pieces += [text[position:start], pseudonyms.of(text[start:end], kind, root)]
        position = end
    return "".join((*pieces, text[position:])) if pieces else text
