"""The provider ``structural``: no model, a deterministic reading of the subtree, always labelled as such."""

from __future__ import annotations

import re
import threading

from lxml import etree

from thresher.core.errors import PermanentLLMError
from thresher.engine.work import Usage
from thresher.llm.client import ModelReply, ModelRequest
from thresher.llm.evidence import Evidence
from thresher.llm.prices import FREE
from thresher.llm.structural.fill import fill
from thresher.llm.structural.scalars import to_text

__all__ = ["StructuralClient", "fill", "parse_subtree"]

NAME = "structural"

_ORDINAL = re.compile(
    r"^[ \t]*(?:node[ _-]?)?(?:ordinal|position)[ \t]*[:=#]?[ \t]*([0-9]{1,9})", re.IGNORECASE | re.MULTILINE
)
_NO_USAGE = Usage()


class StructuralClient:
    """Answers from the leaves of the subtree: any schema, at once, at no cost. Safe for any number of threads."""

    provider = NAME
    model = NAME
    leaves_machine = False
    takes_batches = False
    resource = None
    price = FREE
    fallbacks: tuple[str, ...] = ()

    def complete(self, request: ModelRequest) -> ModelReply:
        """Fills the request's schema from its subtree; a context line ``ordinal: N`` gives the node's ordinal.

        Raises:
            PermanentLLMError: the subtree is not well-formed XML.
        """
        schema = request.schema.bounded_format["json_schema"]["schema"]
        answer = fill(schema, request.evidence or _read(request.subtree), ordinal=_ordinal(request.user))
        text = to_text(answer)
        return ModelReply(text=text, finish_reason="stop", model=NAME, usage=_NO_USAGE)

    def check(self) -> None:
        """Always well: nothing outside this process is needed."""

    def close(self) -> None:
        """Nothing is held."""


def _read(subtree: str) -> Evidence:
    try:
        return Evidence.of(parse_subtree(subtree))
    except etree.XMLSyntaxError as error:
        raise PermanentLLMError(f"The subtree is not well-formed XML: {error.msg}.") from error


def parse_subtree(text: str) -> etree._Element:
    """The root of a subtree's text. Reads nothing from outside it; entities stay as they are written.

    Raises:
        lxml.etree.XMLSyntaxError: it is not well-formed.
    """
    return etree.fromstring(text.encode(), _parser())


_parsers = threading.local()


def _parser() -> etree.XMLParser:
    """This thread's own: a shared one lets one thread in at a time."""
    parser: etree.XMLParser | None = getattr(_parsers, "parser", None)
    if parser is None:
        parser = etree.XMLParser(
            encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        )
        _parsers.parser = parser
    return parser


def _ordinal(prompt: str) -> int:
    """The ordinal that a line before the subtree names, else 1."""
    found = _ORDINAL.search(prompt, 0, max(0, prompt.find("<")))
    return int(found.group(1)) if found else 1
