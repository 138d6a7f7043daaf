from __future__ import annotations

from datetime import UTC, datetime

from thresher.engine.feed import ERRORS_KEPT, SLOWEST_KEPT, Background, ProgressFeed
from thresher.engine.progress import ItemFinished, RunFinished, RunStarted, Snapshot
from thresher.engine.work import Counts, ItemStatus, JsonObject, Mode, Run, RunReport, RunStatus, Usage

RUN = Run(
    "r1", "k", "w", RunStatus.RUNNING, Mode.PARALLEL, "", None, None, {}, {}, {}, None, None, 0,
    planning_complete=True, elapsed_seconds=0.0, created_at=datetime.now(UTC), started_at=None, finished_at=None,
)  # fmt: skip
REPORT = RunReport("r1", RunStatus.SUCCEEDED, Mode.PARALLEL, "", Counts(), Usage(), 1.0, 1.0, 1, {})


def started(total: int = 100) -> RunStarted:
    return RunStarted(
        RUN, Mode.PARALLEL, 4, resumed=False, snapshot=Snapshot(Counts(pending=total), planning_complete=True)
    )


def finished(number: int, error: str | None = None, total: int = 100) -> ItemFinished:
    """The ``number``-th node of a run, which took as many seconds, committed at that second."""
    snapshot = Snapshot(Counts(pending=total - number, succeeded=number), planning_complete=True, number=number)
    result: JsonObject = {"facts": 2}
    return ItemFinished(
        "r1", f"/a[{number}]", ItemStatus.SUCCEEDED, float(number), error, None, result, snapshot,
        item=number, committed_at=float(number),
    )  # fmt: skip


def test_an_onlooker_is_woken_once_and_takes_the_newest_state_of_all_that_was_told() -> None:
    feed, woken = ProgressFeed(), list[int]()
    with feed.subscribed(("r1",), lambda: woken.append(1)) as subscription, feed.session("r1") as tell:
        subscription.take()
        woken.clear()
        tell(started())
        for number in range(1, 21):
            tell(finished(number))
        assert len(woken) == 1
        (state,) = subscription.take().values()
        assert (state.snapshot and state.snapshot.counts.succeeded, state.facts, state.workers) == (20, 40, 4)
        assert (state.news_since, state.committed_at) == (1.0, 20.0)
        assert subscription.take() == {}
        tell(finished(21))
        (state,) = subscription.take().values()
        assert (len(woken), state.news_since, state.committed_at) == (2, 21.0, 21.0)


def test_the_newest_errors_and_the_longest_attempts_are_kept() -> None:
    feed = ProgressFeed()
    with feed.session("r1") as tell:
        tell(started())
        for number in (7, 3, 9, 1, 8, 2, 6, 5, 4):
            tell(finished(number, "RateLimited" if number != 4 else None))
        state = feed.state("r1")
    assert state is not None
    assert [event.item for event in state.slowest] == [9, 8, 7, 6, 5][:SLOWEST_KEPT]
    assert [event.item for event in state.last_errors] == [1, 8, 2, 6, 5][-ERRORS_KEPT:]


def test_who_comes_late_takes_the_state_at_once_and_the_end_is_told_though_it_was_not_said() -> None:
    feed = ProgressFeed()
    with feed.session("r1") as tell:
        tell(started())
        tell(finished(1))
        feed.describe("r1", Background(facts=5))
        with feed.subscribed(("r1", "r2"), lambda: None) as subscription:
            (state,) = subscription.take().values()
            assert (state.facts, state.background.facts, state.is_over, state.news_since) == (2, 5, False, None)
    assert feed.state("r1") is None
    with feed.subscribed(("r1",), lambda: None) as subscription:
        assert subscription.take() == {}
        with feed.session("r1") as tell:
            tell(RunFinished(REPORT))
        (state,) = subscription.take().values()
        assert (state.is_over, state.report) == (True, REPORT)


def test_a_closed_feed_sends_onlookers_home_when_they_have_taken_all() -> None:
    feed = ProgressFeed()
    with feed.session("r1") as tell, feed.subscribed(("r1",), lambda: None) as subscription:
        tell(started())
        feed.close()
        assert not subscription.is_closed
        subscription.take()
        assert subscription.is_closed


def test_an_onlooker_that_fails_is_no_trouble_of_the_run_s() -> None:
    feed = ProgressFeed()

    def fail() -> None:
        raise RuntimeError("the event loop is closed")

    with feed.subscribed(("r1",), fail) as subscription, feed.session("r1") as tell:
        tell(started())
        assert list(subscription.take()) == ["r1"]


def test_workers_that_tell_in_another_order_than_they_ended_take_nothing_back() -> None:
    feed = ProgressFeed()
    with feed.session("r1") as tell, feed.subscribed(("r1",), lambda: None) as subscription:
        for event in (started(), finished(1), finished(4), finished(2), finished(3)):
            tell(event)
        (state,) = subscription.take().values()
    assert state.snapshot is not None
    assert state.snapshot.counts.succeeded == 4
    assert (state.facts, state.news_since, state.committed_at) == (8, 1.0, 4.0)


def test_an_onlooker_may_follow_more_runs_as_they_are_found() -> None:
    feed, woken = ProgressFeed(), []
    with feed.session("r1") as tell, feed.session("r2") as tell_other:
        tell_other(started())
        with feed.subscribed((), lambda: woken.append(1)) as subscription:
            tell(started())
            assert subscription.take() == {}
            woken.clear()
            feed.follow(subscription, ("r2", "r3"))
            assert woken == [1]
            assert list(subscription.take()) == ["r2"], "as it is, though all of it was told before"
            feed.follow(subscription, ("r2",))
            assert subscription.take() == {}
            tell_other(finished(1))
            assert list(subscription.take()) == ["r2"]
            with feed.session("r3"):
                pass
            assert list(subscription.take()) == ["r3"]
        tell_other(finished(2))
        assert subscription.take() == {}, "who has left is told nothing"


def test_who_follows_no_run_yet_is_sent_home_too() -> None:
    feed, woken = ProgressFeed(), []
    with feed.subscribed((), lambda: woken.append(1)) as subscription:
        woken.clear()
        feed.close()
        assert (subscription.is_closed, woken) == (True, [1])
