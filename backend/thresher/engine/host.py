"""Works on queued runs in the background of a server: some at once, each in a thread of its own.

The queue is rows: what a server that was killed has left is taken up by the next one, and two servers never work on the
same run. (Should one fall silent for longer than its lease, both may: items are leased one by one, none is done twice.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread

from thresher.core.errors import DatabaseUnavailable, StorageFailed, ThresherError, own_words
from thresher.core.logging import get_logger
from thresher.engine.control import RunControl
from thresher.engine.feed import ProgressFeed
from thresher.engine.ownership import is_dead, this_process
from thresher.engine.ports import QueuedRun, RunQueue
from thresher.engine.progress import Listener
from thresher.engine.work import ENDED, Priority, RunReport

log = get_logger(__name__)

Work = Callable[[str, Sequence[Listener], RunControl], RunReport]
"""Works on the run of this identifier until it ends or the control stops it; see ``Runner.run``."""

STOPPING = "the server is stopping"


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How a host works.

    ``runs_at_once``: of one priority and those before it, so that runs of a higher one never wait for lower ones.
    ``lease``: seconds after which another server may take the runs of a silent one. ``poll``: the longest time in
    seconds until a run is seen that another process has queued. ``grace``: seconds that items in hand get at the end.
    """

    runs_at_once: int = 4
    lease: float = 60.0
    poll: float = 1.0
    grace: float = 30.0


@dataclass(frozen=True, slots=True)
class _Session:
    """A run in hand."""

    run: QueuedRun
    control: RunControl
    thread: Thread


class RunHost:
    """Takes runs from the queue and works on them until it is stopped. ``wake`` it when something was queued.

    ``on_end`` is called when the session of a run is over, from the run's thread; it must not wait for anything.
    """

    def __init__(
        self,
        queue: RunQueue,
        work: Work,
        feed: ProgressFeed,
        options: HostOptions | None = None,
        *,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_end = on_end
        self.options = options or HostOptions()
        self._queue = queue
        self._work = work
        self._feed = feed
        self._owner = this_process()
        self._control = RunControl()  # of the host itself
        self._lock = Lock()  # protects _sessions
        self._sessions: dict[str, _Session] = {}
        self._renewed = time.time()
        self._thread = Thread(target=self._supervise, name="thresher-host", daemon=True)
        self._is_done = Event()

    def start(self) -> None:
        """Begins to take runs, those first that a dead server has left."""
        self._thread.start()

    def wake(self) -> None:
        """Looks into the queue at once. Safe to call from any thread."""
        self._control.wake()

    def stop_soon(self) -> None:
        """Begins to stop: no run and no item starts any more. Safe to call from a signal handler; waits for nothing."""
        self._control.stop(STOPPING)

    def stop(self) -> bool:
        """Stops, waiting for items in hand for ``grace`` seconds at most; says whether all of them have ended.

        What was not finished is queued, and goes on with the next server.
        """
        self.stop_soon()
        return self._is_done.wait(self.options.grace) if self._thread.ident is not None else True

    def give_up(self) -> None:
        """Makes ``stop`` wait no longer. Safe to call from a signal handler."""
        self._is_done.set()

    @property
    def in_hand(self) -> tuple[str, ...]:
        """Identifiers of the runs that are being worked on here."""
        with self._lock:
            return tuple(self._sessions)

    # -- the host's own thread ------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while not self._control.stopping.is_set():
            try:
                self._look()
            except ThresherError as error:  # the database is away: runs in hand wait for it by themselves
                log.warning("queue of runs not read", error=type(error).__name__, reason=own_words(error))
            self._control.wait(self.options.poll)
        self._stop_sessions()
        self._is_done.set()

    def _look(self) -> None:
        """One look at the queue: keeps what is in hand, frees what the dead have left, takes what there is room for."""
        if abs(time.time() - self._renewed) > self.options.lease / 4:  # also when the machine was suspended
            self._queue.renew(self._owner, self.options.lease, self.in_hand)
            self._renewed = time.time()
        self._queue.recover(is_dead)
        while not self._control.stopping.is_set():
            taken = self._queue.take(self._owner, self.options.lease, self._full(), self.in_hand)
            if taken is None:
                return
            self._begin(taken)

    def _full(self) -> frozenset[Priority]:
        """The priorities of which no run can begin now."""
        with self._lock:
            busy = [session.run.priority for session in self._sessions.values()]
        most = self.options.runs_at_once
        return frozenset(priority for priority in Priority if sum(other <= priority for other in busy) >= most)

    def _begin(self, taken: QueuedRun) -> None:
        control = RunControl()
        thread = Thread(target=self._host, args=(taken, control), name=f"thresher-{taken.run_id}", daemon=True)
        with self._lock:
            self._sessions[taken.run_id] = _Session(taken, control, thread)
        thread.start()

    def _stop_sessions(self) -> None:
        with self._lock:
            sessions = tuple(self._sessions.values())
        for session in sessions:
            session.control.stop(STOPPING)
        for session in sessions:
            session.thread.join()

    # -- a run's thread -------------------------------------------------------------------------------------

    def _host(self, taken: QueuedRun, control: RunControl) -> None:
        """One run, from the queue to its end; nothing that happens in it concerns the others."""
        run_id = taken.run_id
        try:
            self._hand_back(taken, self._worked_on(run_id, control), control)
        except (DatabaseUnavailable, StorageFailed) as error:  # it is taken again when its lease is over
            log.warning("run left for later", run_id=run_id, error=type(error).__name__, reason=own_words(error))
        except Exception:
            log.exception("run not handed back", run_id=run_id)
        finally:
            with self._lock:
                self._sessions.pop(run_id, None)
            self._on_end()
            self._control.wake()

    def _worked_on(self, run_id: str, control: RunControl) -> RunReport | None:
        """What a session came to; None where there could be none, which is then told by the run's own rows."""
        try:
            with self._feed.session(run_id) as listener:
                return self._work(run_id, (listener,), control)
        except (DatabaseUnavailable, StorageFailed):
            raise
        except ThresherError as error:
            log.warning("run not worked on", run_id=run_id, error=type(error).__name__, reason=own_words(error))
        except Exception:
            log.exception("session failed", run_id=run_id)
        return None

    def _hand_back(self, taken: QueuedRun, report: RunReport | None, control: RunControl) -> None:
        """A run that only this host's end has stopped stays queued; any other waits for somebody to ask for more."""
        is_open = report is not None and report.status not in ENDED
        if is_open and control.reason == STOPPING and control.request is None and control.error is None:
            self._queue.put_back(taken, self._owner)
        else:
            self._queue.remove(taken, self._owner)
