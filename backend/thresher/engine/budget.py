"""What may be spent on a run: US dollars or tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from thresher.core.errors import BadConfiguration

_USD_ATOMS = 10**12  # amounts are whole numbers of these, so that sums of any length are exact
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}
_FORM = re.compile(
    r"\s*(?P<sign>\$)?\s*(?P<number>[0-9]{1,12}(?:\.[0-9]{1,12})?|\.[0-9]{1,12})\s*"
    r"(?P<factor>[km])?\s*(?P<unit>usd|tokens?|\$)?\s*",
    re.IGNORECASE,
)
_EXAMPLES = "Write it as 0.50, 0.50usd or $0.50 for US dollars, as 200000tokens or 200ktokens for tokens."


class Unit(StrEnum):
    """What a budget counts."""

    USD = "USD"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Spending:
    """Tokens (prompt and completion), and US dollars; ``cost_usd`` None: the price is unknown."""

    tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a run may spend, all its sessions together."""

    amount: Decimal
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads what people write: ``0.50``, ``0.50usd``, ``$0.50``, ``200000tokens``, ``200k tokens``.

        Raises:
            BadConfiguration: it is no such amount, or not more than nothing.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise BadConfiguration(f"{text!r} is no budget. {_EXAMPLES}")
        factor, unit = (found["factor"] or "").lower(), (found["unit"] or "").lower()
        is_tokens = unit.startswith("token")
        if (is_tokens and found["sign"]) or (factor and not is_tokens):
            raise BadConfiguration(f"{text!r} is no budget: is it US dollars or tokens? {_EXAMPLES}")
        amount = Decimal(found["number"]) * _FACTORS[factor]
        if amount <= 0 or (is_tokens and amount != int(amount)):
            wanted = "a whole number of tokens, 1 or more" if is_tokens else "more than 0"
            raise BadConfiguration(f"{text!r} is no budget: it must be {wanted}.")
        return cls(amount, Unit.TOKENS if is_tokens else Unit.USD)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.unit}"  # parse() reads it back

    @property
    def atoms(self) -> int:
        """The amount in whole numbers: tokens, or millionths of a millionth of a dollar."""
        return self.atoms_in(self.unit, self.amount)

    @staticmethod
    def atoms_in(unit: Unit, amount: Decimal | float) -> int:
        """An amount of a unit in whole numbers."""
        return round(amount * _USD_ATOMS) if unit is Unit.USD else int(amount)

    def atoms_of(self, spending: Spending) -> int | None:
        """What a spending takes of it; None where that is unknown."""
        if self.unit is Unit.TOKENS:
            return spending.tokens
        return None if spending.cost_usd is None else self.atoms_in(self.unit, spending.cost_usd)

    def minus(self, spending: Spending) -> Budget | None:
        """What is left of it; None where nothing is, or where what was spent is unknown."""
        spent = self.atoms_of(spending)
        left = 0 if spent is None else self.atoms - spent
        if left <= 0:
            return None
        return Budget(Decimal(left) / (_USD_ATOMS if self.unit is Unit.USD else 1), self.unit)

    def spent_of(self, spending: Spending) -> float | int | None:
        """A spending as a number in the unit of this budget; None where it is unknown."""
        return spending.tokens if self.unit is Unit.TOKENS else spending.cost_usd

    def shown(self, atoms: int) -> str:
        """An amount for people: ``0.4871 USD``, ``0.000312 USD``, ``12,000 tokens``."""
        if self.unit is Unit.TOKENS:
            return f"{atoms:,} tokens"
        return f"{dollars(atoms / _USD_ATOMS)} USD"


def dollars(amount: float) -> str:
    """US dollars for people: four decimals, six below a cent."""
    return f"{amount:,.4f}" if amount >= 0.01 or amount == 0 else f"{amount:.6f}"
