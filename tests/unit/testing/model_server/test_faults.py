from __future__ import annotations

from statistics import mean, stdev

import pytest

from thresher.testing.model_server.faults import Draw, Fate, Lottery
from thresher.testing.model_server.options import Faults, Options

MANY = [f"subtree {n}" for n in range(4000)]


def test_server_without_faults_always_answers() -> None:
    lottery = Lottery(Options(latency=0.5))
    assert {lottery.draw(subtree, 1) for subtree in MANY} == {Draw(latency=0.5)}


@pytest.mark.parametrize(
    ("faults", "fate"),
    [
        (Faults(hang=0.2), Fate.HANG),
        (Faults(drop=0.2), Fate.DROP),
        (Faults(html=0.2), Fate.HTML),
        (Faults(error_500=0.2), Fate.ERROR_500),
    ],
)
def test_fate_takes_its_share(faults: Faults, fate: Fate) -> None:
    lottery = Lottery(Options(faults=faults))
    fates = [lottery.draw(subtree, 1).fate for subtree in MANY]
    assert set(fates) == {fate, Fate.ANSWER}
    assert fates.count(fate) / len(MANY) == pytest.approx(0.2, abs=0.03)


def test_shares_of_spoiled_answers_are_drawn_each_on_its_own() -> None:
    lottery = Lottery(Options(faults=Faults(truncate=0.2, fence=0.4, prose=0.6)))
    draws = [lottery.draw(subtree, 1) for subtree in MANY]
    assert mean(draw.cut < 1 for draw in draws) == pytest.approx(0.2, abs=0.03)
    assert mean(draw.fenced for draw in draws) == pytest.approx(0.4, abs=0.03)
    assert mean(draw.prose for draw in draws) == pytest.approx(0.6, abs=0.03)
    assert mean(draw.fenced and draw.prose for draw in draws) == pytest.approx(0.24, abs=0.03)
    assert all(0.2 <= draw.cut <= 0.8 for draw in draws if draw.cut < 1)


def test_draw_depends_on_seed_subtree_and_count_and_on_nothing_else() -> None:
    options = Options(faults=Faults(error_500=0.5, fence=0.5), seed=3)
    one, same = Lottery(options), Lottery(options)
    other = Lottery(Options(faults=options.faults, seed=4))
    draws = [one.draw(subtree, 1) for subtree in MANY]
    assert [same.draw(subtree, 1) for subtree in reversed(MANY)] == draws[::-1]
    assert [one.draw(subtree, 2) for subtree in MANY] != draws
    assert [other.draw(subtree, 1) for subtree in MANY] != draws


def test_jitter_is_lognormal_and_keeps_the_mean() -> None:
    lottery = Lottery(Options(latency=2.0, jitter=0.6))
    latencies = [lottery.draw(subtree, 1).latency for subtree in MANY]
    assert mean(latencies) == pytest.approx(2.0, rel=0.05)
    assert stdev(latencies) == pytest.approx(2.0 * 0.658, rel=0.1)  # sqrt(exp(0.6^2) - 1)
    assert min(latencies) > 0
