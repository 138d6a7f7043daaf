"""What tokens cost, in US dollars per million, by model name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from thresher.core.errors import BadConfiguration

_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. ``cached_input`` is for prompt tokens that the provider had in its cache."""

    input: float
    cached_input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """US dollars; ``cached_tokens`` are a part of ``prompt_tokens``, as providers report them."""
        cached = min(max(cached_tokens, 0), prompt_tokens)
        dollars = (prompt_tokens - cached) * self.input + cached * self.cached_input + completion_tokens * self.output
        return dollars / 1_000_000

    def most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars at most, whatever share of the prompt is in the provider's cache."""
        dollars = prompt_tokens * max(self.input, self.cached_input) + completion_tokens * self.output
        return dollars / 1_000_000


FREE = Price(0.0, 0.0, 0.0)


class Prices:
    """A table of prices. An unknown model has no price: its cost is unknown, which is not the same as 0."""

    def __init__(self, table: Mapping[str, Price], *, default: Price | None = None) -> None:
        self._table = dict(table)
        self._default = default

    @classmethod
    def load(cls, override: Path | None = None) -> Self:
        """The table of the package; entries of the file ``override`` (TOML or YAML) win over it.

        Raises:
            BadConfiguration: the file cannot be read or holds something else than prices.
        """
        bundled = files("thresher.llm").joinpath("prices.toml").read_text(encoding="utf-8")
        table = _table(tomllib.loads(bundled), "prices.toml")
        if override is not None:
            table |= _table(_read(override), str(override))
        return cls(table)

    @classmethod
    def free(cls) -> Self:
        """For models on this machine: every one costs 0."""
        return cls({}, default=FREE)

    def of(self, model: str) -> Price | None:
        """The price of a model, found by its name or its name without the date at its end; None where unknown."""
        name = model.lower()
        return self._table.get(name) or self._table.get(_DATED.sub("", name)) or self._default

    def highest_of(self, model: str) -> Price | None:
        """The most that a model can cost, whichever of its dated versions answers; None where unknown."""
        versions = [price for name, price in self._table.items() if _DATED.sub("", name) == model.lower()]
        known = [price for price in (*versions, self.of(model)) if price is not None]
        if not known:
            return None
        return Price(
            max(price.input for price in known),
            max(price.cached_input for price in known),
            max(price.output for price in known),
        )


def _read(path: Path) -> Any:  # noqa: ANN401  # checked by _table
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(f"The prices file {path} cannot be read: {error.strerror}. See PRICES_FILE.") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"The prices file {path} is not UTF-8 text (byte {error.start}).") from error
    if path.suffix.lower() in {".yaml", ".yml"}:
        return _read_yaml(path, text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"The prices file {path} is no TOML: {error}.") from error


def _read_yaml(path: Path, text: str) -> Any:  # noqa: ANN401  # checked by _table
    import yaml  # noqa: PLC0415  # few runs need it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadConfiguration(f"The prices file {path} is no YAML: {' '.join(str(error).split())}.") from error


def _table(document: Any, place: str) -> dict[str, Price]:  # noqa: ANN401  # what a file holds
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict):
        raise BadConfiguration(f'{place}: a table "models" is missing; the package\'s own prices.toml shows the form.')
    return {str(name).lower(): _price(entry, f"{place}: models.{name}") for name, entry in models.items()}


def _price(entry: Any, place: str) -> Price:  # noqa: ANN401  # what a file holds
    if not isinstance(entry, dict) or not {"input", "output"} <= entry.keys() <= {"input", "cached_input", "output"}:
        raise BadConfiguration(f"{place} must have input and output, may have cached_input, and nothing else.")
    for name, amount in entry.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
            raise BadConfiguration(f"{place}.{name} must be US dollars per million tokens, not {amount!r}.")
    given = {name: float(amount) for name, amount in entry.items()}
    return Price(given["input"], given.get("cached_input", given["input"]), given["output"])
