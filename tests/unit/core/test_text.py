"""Text that no database and no answer in UTF-8 takes is refused, wherever in a value it stands."""

from __future__ import annotations

from typing import Any

import pytest

from thresher.core.text import require_storable


@pytest.mark.parametrize(
    "value", ["", "plain", "é\n\u2028\U0001f600\uffff", {"a": [1, None, {"b": "c"}]}, 10**30, True]
)
def test_text_that_can_be_stored_comes_back_as_it_is(value: Any) -> None:
    assert require_storable(value) is value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("ab\0", r"character 3 cannot be stored: U\+0000"),
        ("\ud800", r"character 1 cannot be stored: U\+D800"),
        ({"a": [1, {"b": "c\udfff"}]}, r"character 2 cannot be stored: U\+DFFF"),
        ({"a": {"\0": 1}}, r"U\+0000"),
        (["a", ["\0"]], r"U\+0000"),
    ],
)
def test_text_that_cannot_is_refused_by_its_character(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        require_storable(value)
