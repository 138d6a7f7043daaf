from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thresher.engine.progress import DURATIONS_KEPT, Tally
from thresher.engine.work import Counts, ItemStatus, Usage

ENDS = st.sampled_from(
    [ItemStatus.SUCCEEDED, ItemStatus.SKIPPED, ItemStatus.DEAD, ItemStatus.CANCELLED, ItemStatus.PENDING]
)


@given(planned=st.integers(0, 30), skipped=st.integers(0, 5), ends=st.lists(ENDS, max_size=30))
def test_counts_always_add_up_and_progress_never_passes_its_total(
    planned: int, skipped: int, ends: list[ItemStatus]
) -> None:
    tally = Tally(Counts(), planning_complete=False, workers=4)
    total = tally.planned(planned, skipped, complete=True).counts.total
    assert total == planned + skipped
    for status in [end for end in ends if end is not ItemStatus.PENDING][:planned]:
        counts = tally.ended(status, 0.1, Usage(), None).counts
        assert counts.total == total
        assert counts.finished <= total
        assert counts.open + counts.finished == total


def test_an_item_that_will_be_tried_again_stays_open_and_its_error_is_counted() -> None:
    tally = Tally(Counts(pending=2), planning_complete=True, workers=2)
    snapshot = tally.ended(ItemStatus.PENDING, 0.1, Usage(requests=1), "RateLimited")
    assert (snapshot.counts.open, snapshot.errors, snapshot.usage.requests) == (2, {"RateLimited": 1}, 1)
    assert tally.unfinished == 2


def test_the_time_left_is_open_items_times_the_mean_over_those_that_run_side_by_side() -> None:
    tally = Tally(Counts(pending=101), planning_complete=True, workers=10)
    assert tally.snapshot().eta_seconds is None, "nothing is known yet"
    assert tally.ended(ItemStatus.SUCCEEDED, 2.0, Usage(), None).eta_seconds == 20.0
    for _ in range(DURATIONS_KEPT):
        tally.ended(ItemStatus.PENDING, 4.0, Usage(), None)
    assert tally.snapshot().eta_seconds == 40.0, "only the last durations count"


def test_the_last_item_alone_takes_as_long_as_one() -> None:
    tally = Tally(Counts(pending=2), planning_complete=True, workers=10)
    assert tally.ended(ItemStatus.SUCCEEDED, 3.0, Usage(), None).eta_seconds == 3.0
    assert tally.ended(ItemStatus.SUCCEEDED, 3.0, Usage(), None).eta_seconds == 0.0


def test_a_run_that_goes_on_starts_from_what_the_store_says() -> None:
    tally = Tally(Counts(pending=3, succeeded=7), planning_complete=True, workers=1)
    snapshot = tally.snapshot()
    assert (snapshot.counts.total, snapshot.counts.finished, snapshot.rate) == (10, 7, 0.0)


def test_an_unknown_price_stays_unknown_in_the_sum() -> None:
    tally = Tally(Counts(pending=2), planning_complete=True, workers=1)
    tally.ended(ItemStatus.SUCCEEDED, 1.0, Usage(cost_usd=None), None)
    assert tally.ended(ItemStatus.SUCCEEDED, 1.0, Usage(cost_usd=0.5), None).usage.cost_usd is None
