from __future__ import annotations

from pathlib import Path

import pytest

from thresher.core.errors import BadConfiguration
from thresher.llm.prices import FREE, Price, Prices


def test_a_price_is_found_by_name_and_by_dated_name() -> None:
    prices = Prices.load()
    assert prices.of("gpt-4o") == Price(2.5, 1.25, 10.0)
    assert prices.of("GPT-4o-2024-08-06") == prices.of("gpt-4o")
    assert prices.of("gpt-4o-2024-05-13") == Price(5.0, 5.0, 15.0)
    assert prices.of("gpt-4o-mini-2024-07-18") == prices.of("gpt-4o-mini")


@pytest.mark.parametrize("model", ["gpt-4o-audio", "mistral", "", "my-gpt-4o"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert Prices.load().of(model) is None


def test_the_structural_reading_and_models_of_this_machine_cost_nothing() -> None:
    assert Prices.load().of("structural") == FREE
    assert Prices.free().of("anything") == FREE


def test_cached_tokens_are_a_part_of_the_prompt() -> None:
    assert Price(2.0, 1.0, 4.0).cost(1_000_000, 1_000_000, 500_000) == pytest.approx(5.5)
    assert Price(2.0, 1.0, 4.0).cost(10, 0, 99) == pytest.approx(10 * 1.0 / 1e6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", '[models]\n"gpt-4o" = {input = 1, output = 2}\nmine = {input = 3, cached_input = 1, output = 4}'),
        ("p.yaml", "models:\n  gpt-4o: {input: 1, output: 2}\n  mine: {input: 3, cached_input: 1, output: 4}"),
    ],
)
def test_a_users_file_wins_and_leaves_the_rest(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    prices = Prices.load(tmp_path / name)
    assert prices.of("gpt-4o") == Price(1.0, 1.0, 2.0)
    assert prices.of("mine") == Price(3.0, 1.0, 4.0)
    assert prices.of("o3") is not None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.toml", "models = [", "no TOML"),
        ("p.yaml", "models: [", "no YAML"),
        ("p.yaml", "", '"models" is missing'),
        ("p.toml", "[prices]", '"models" is missing'),
        ("p.toml", "[models]\nm = {input = 1}", "models.m must have"),
        ("p.toml", "[models]\nm = {input = 1, output = 2, ouput = 3}", "models.m must have"),
        ("p.toml", "[models]\nm = {input = -1, output = 2}", "models.m.input"),
        ("p.toml", "[models]\nm = {input = true, output = 2}", "models.m.input"),
        ("p.toml", '[models]\nm = {input = "1", output = 2}', "models.m.input"),
        ("p.toml", "[models]\nm = {input = nan, output = 2}", "models.m.input"),
        ("p.toml", "[models]\nm = 1", "models.m must have"),
    ],
)
def test_an_unusable_file_is_refused_with_the_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadConfiguration, match=said) as caught:
        Prices.load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be read"):
        Prices.load(tmp_path / "none.toml")


def test_a_reservation_is_made_at_the_price_of_the_dearest_version() -> None:
    prices = Prices({"m": Price(1, 0.5, 4), "m-2024-05-13": Price(2, 2, 3), "other": Price(9, 9, 9)})
    assert prices.highest_of("m") == Price(2, 2, 4)
    assert prices.highest_of("m-2024-05-13") == Price(2, 2, 3)
    assert prices.highest_of("unknown") is None
    assert Price(1, 3, 2).most(1_000_000, 1_000_000) == 5
