"""expat with every dangerous door closed."""

from __future__ import annotations

import pyexpat
import re
from collections.abc import Callable
from typing import NoReturn

from lxml import etree

from thresher.core.errors import MalformedDocument, UnsafeDocument
from thresher.workflows.discovery.subtrees.limits import Limits
from thresher.workflows.discovery.subtrees.names import SEPARATOR

# Above this an unfinished token is fed on only when it has doubled: older expat scans it anew at each call.
_DOUBLING_FROM = 256 * 1024
_PREDEFINED = "only &amp; &lt; &gt; &quot; and &apos; are known without a declaration"

_VERSION = re.compile(r"1\.[0-9]+")

StartHandler = Callable[[str, list[str]], None]
EndHandler = Callable[[str], None]
DeclarationHandler = Callable[[str | None, str | None], None]


class GuardedParser:
    """A namespace-aware expat over UTF-8 that refuses what can harm.

    Refused: declared entities of any kind, references to undeclared ones, too many or too long attribute
    defaults, tokens without end, too many distinct names. Offsets are bytes of the UTF-8 fed so far.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._interned: dict[str, str] = {}
        self._names_asked = 0
        self._fed = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._defaults = 0
        self.is_unusual = False  # a DTD, here or elsewhere, adds to what is written
        self._expat = self._new_expat()
        self._elements: tuple[StartHandler | None, EndHandler | None] = (None, None)
        self._declaration: DeclarationHandler | None = None
        self._namespaces: set[str | None] = {None}

    def _new_expat(self) -> pyexpat.XMLParserType:
        expat = pyexpat.ParserCreate("utf-8", SEPARATOR, self._interned)
        expat.ordered_attributes = True
        if hasattr(expat, "SetReparseDeferralEnabled"):
            expat.SetReparseDeferralEnabled(False)  # noqa: FBT003 - positional-only; feed() bounds the work itself
        expat.EntityDeclHandler = self._refuse_entity
        expat.ExternalEntityRefHandler = self._refuse_reference
        expat.SkippedEntityHandler = self._refuse_skipped
        expat.AttlistDeclHandler = self._bound_default
        expat.StartDoctypeDeclHandler = self._note_doctype
        expat.XmlDeclHandler = self._check_version
        return expat

    def handle(self, start: StartHandler, end: EndHandler, declaration: DeclarationHandler) -> None:
        """Sets who hears of elements and namespace declarations (before their element)."""
        self._elements = (start, end)
        self._declaration = declaration
        self._expat.StartNamespaceDeclHandler = self._on_declaration
        self._expat.StartElementHandler, self._expat.EndElementHandler = start, end

    def hear_text(self, handler: Callable[[str], None] | None) -> None:
        """Sets who hears of text; nobody for None."""
        self._expat.CharacterDataHandler = handler

    def check(self, data: bytes) -> None:
        """Parses on without telling anybody of elements.

        Raises:
            MalformedDocument, UnsafeDocument: as ``feed``.
        """
        expat = self._expat
        expat.StartElementHandler = expat.EndElementHandler = None
        self._parse(data, final=False)
        expat.StartElementHandler, expat.EndElementHandler = self._elements

    def has_new_names(self) -> bool:
        """Whether names have come up since this was last asked."""
        before, self._names_asked = self._names_asked, len(self._interned)
        return self._names_asked > before

    @property
    def offset(self) -> int:
        """Where the token starts that is being handled, in bytes of UTF-8."""
        return self._expat.CurrentByteIndex

    @property
    def is_holding(self) -> bool:
        """Whether bytes wait until a token without end so far has doubled."""
        return bool(self._held)

    def feed(self, data: bytes) -> None:
        """Parses on.

        Raises:
            MalformedDocument: the document is not well-formed.
            UnsafeDocument: it is beyond a bound or declares an entity.
        """
        if self._held:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._pending():
                return
            data = self._release()
        self._parse(data, final=False)
        if self._pending() > _DOUBLING_FROM:
            self._bound_token()
            self._held.append(b"")
        if len(self._interned) > self._limits.max_names:
            self.refuse(f"it uses more than {self._limits.max_names:,} different names")

    def close(self) -> None:
        """Parses to the end.

        Raises:
            MalformedDocument: the document is not complete.
        """
        self._parse(self._release(), final=True)

    def refuse(self, why: str) -> NoReturn:
        """Refuses the document at the place that is being handled.

        Raises:
            UnsafeDocument: always.
        """
        line, column = self._expat.CurrentLineNumber, self._expat.CurrentColumnNumber + 1
        raise UnsafeDocument(
            f"{self._name} is refused at line {line}, column {column}: {why}.", line=line, column=column
        )

    def refuse_depth(self) -> NoReturn:
        """Refuses a document whose elements are nested too deep.

        Raises:
            UnsafeDocument: always.
        """
        self.refuse(
            f"its elements are nested deeper than {self._limits.max_depth}; raise MAX_DEPTH if you trust the document"
        )

    def check_alone(self, xml: bytes) -> None:
        """Refuses a document whose subtree cannot be read without the document's DTD.

        Raises:
            UnsafeDocument: it uses an entity or a namespace that only the DTD can declare.
        """
        try:
            pyexpat.ParserCreate("utf-8", SEPARATOR).Parse(xml, True)  # noqa: FBT003 - a positional-only flag
        except pyexpat.ExpatError as error:
            self.refuse(f"the element that ends here needs its DTD ({pyexpat.ErrorString(error.code)}); none is read")

    def _parse(self, data: bytes, *, final: bool) -> None:
        try:
            self._expat.Parse(data, final)
        except pyexpat.ExpatError as error:
            raise _malformed(self._name, error) from error
        self._fed += len(data)

    def _pending(self) -> int:
        return self._fed - self._expat.CurrentByteIndex

    def _release(self) -> bytes:
        data = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        return data

    def _bound_token(self) -> None:
        if self._pending() > self._limits.max_token_bytes:
            self.refuse(f"a tag, comment or instruction is longer than {self._limits.max_token_bytes:,} bytes")

    def _refuse_entity(self, name: str, *_: object) -> NoReturn:
        self.refuse(
            f"it declares the entity {name!r}; entities can read files and explode, so none is accepted: "
            "have it written without them"
        )

    def _refuse_reference(self, *_: object) -> NoReturn:
        self.refuse("it refers to an external entity; none is read")

    def _refuse_skipped(self, name: str, is_parameter: bool) -> None:  # noqa: FBT001 - expat's signature
        if not is_parameter:
            self.refuse(f"it refers to the entity &{name}; that it does not declare ({_PREDEFINED})")

    def _on_declaration(self, prefix: str | None, uri: str | None) -> None:
        if uri not in self._namespaces:
            self._check_namespace(uri or "")
            if len(self._namespaces) > self._limits.max_names:
                self.refuse(f"it uses more than {self._limits.max_names:,} different namespaces")
            self._namespaces.add(uri)
        if self._declaration is not None:
            self._declaration(prefix, uri)

    def _check_namespace(self, uri: str) -> None:
        """lxml, which reads the subtrees later on, takes only valid URIs; only it knows which those are."""
        element = etree.Element("a")
        element.set("u", uri)
        try:
            etree.fromstring(etree.tostring(element).replace(b" u=", b" xmlns:u="))
        except etree.XMLSyntaxError:
            self.refuse(f"the namespace {uri[:200]!r} is no valid URI")

    def _check_version(self, version: str, *_: object) -> None:
        """Expat takes any version, an empty one too; the standard and lxml ask for 1 and a point."""
        if not _VERSION.fullmatch(version):
            raise MalformedDocument(
                f"{self._name} is not well-formed XML at line 1, column 1: it declares the version {version[:20]!r} of "
                "XML. Declare 1.0.",
                line=1,
                column=1,
            )

    def _note_doctype(self, _name: str, system_id: str | None, _public_id: str | None, _internal: bool) -> None:  # noqa: FBT001 - expat's signature
        self.is_unusual = self.is_unusual or system_id is not None

    def _bound_default(self, _element: str, attribute: str, _kind: str, default: str | None, _required: bool) -> None:  # noqa: FBT001 - expat's signature
        if default is None:
            return
        self.is_unusual = True
        self._defaults += 1
        if self._defaults > self._limits.max_attribute_defaults or len(default) > self._limits.max_default_bytes:
            self.refuse(f"the defaults of attributes it declares (here {attribute!r}) are too many or too long")


def _malformed(name: str, error: pyexpat.ExpatError) -> MalformedDocument:
    line, column = error.lineno, error.offset + 1
    reason = _REASONS.get(error.code, pyexpat.ErrorString(error.code))
    return MalformedDocument(
        f"{name} is not well-formed XML at line {line}, column {column}: {reason}. Mend it where it was made; "
        "nothing is guessed.",
        line=line,
        column=column,
    )


_REASONS = {
    2: "there is something other than XML here",
    3: "the document ends before its elements are closed",
    4: "a character cannot stand here",
    5: "the document ends in the middle of a tag, comment or instruction",
    6: "a character is cut off",
    7: "this end tag does not belong to the element that is open",
    8: "an element has the same attribute twice",
    9: "there is something after the end of the root element",
    11: "it refers to an entity that it does not declare",
    20: "the document ends inside a CDATA section",
    27: "a prefix is used that no namespace is declared for",
}
