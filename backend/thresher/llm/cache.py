"""Answers that are asked for once: kept in the database, and shared by those who ask the same at the same moment.

Kept is what a model wrote, where validation accepted it (as it stood, mended, or asked again). It is written in the
transaction that ends the attempt of who asked, and validated and grounded anew for everyone who gets it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Condition, Lock
from typing import Protocol, TypeVar

from thresher.core.errors import DatabaseUnavailable, Postponed
from thresher.engine.attempt import storable
from thresher.engine.ports import AttemptContext
from thresher.engine.work import JsonObject, Usage
from thresher.llm.client import ModelClient, ModelRequest
from thresher.llm.schema import ResponseSchema
from thresher.llm.structured import Answer, AnswerLadder

T = TypeVar("T")

CACHED_ANSWERS = "cached_answers"  # the kind under which answers are attached to an attempt
_ENCODING = "thresher answer 1"  # to be changed with anything below that makes a key
_LONGEST_WAIT = 0.2  # seconds between two looks at whether the run is being stopped
_REMEMBERED_BYTES = 2 * 1024**2  # of answers, in memory
_OWN_KEYS = 10_000  # of answers that this process has attached
_ONE_HIT = Usage(cache_hits=1)


class AnswerStore(Protocol):
    """Where answers are found that were attached as ``CACHED_ANSWERS``. Safe to use from any thread.

    A row has the keys ``key, provider, model, answer, prompt_tokens, completion_tokens, cost_usd, uses``; ``uses`` adds
    to what is stored. With ``answer`` None only a use of a stored answer is counted.
    """

    def holds_any(self, provider: str, model: str) -> bool:
        """Whether there is any answer of this model."""

    def find(self, key: str) -> str | None:
        """The answer with this key, as the model wrote it."""


class AnswerCache:
    """Asks like an ``AnswerLadder``, but only where no answer is known or on its way. One per process.

    An answer from here has no requests and no cost: its usage is one cache hit. Where an asker fails, one of those
    who wait asks next; a wait ends at once where the run is being stopped. While the store holds nothing of a model
    (seen at its first question) only answers of this process are looked up there.
    """

    def __init__(self, store: AnswerStore, ladder: AnswerLadder | None = None) -> None:
        self._store = store
        self.ladder = ladder or AnswerLadder()
        self._flights = _Flights()
        self._recent = _Recent()
        self._own = _OwnKeys()
        self._filled: dict[tuple[str, str], bool] = {}

    def ask(
        self, client: ModelClient, request: ModelRequest, validate: Callable[[str], T], context: AttemptContext
    ) -> Answer[T]:
        """Returns an answer that ``validate`` accepts; see ``AnswerLadder.ask``, also for what it raises.

        Raises:
            Postponed: the store does not answer for now.
            StorageFailed: the store cannot be read.
        """
        question = _Question(key_of(client, request), client, request, context)
        flight = self._flights.join(question.key)
        try:
            known = flight.wait(context)
            if known is None:
                try:
                    answer, flight.landed = self._found_or_asked(question, validate)
                finally:
                    flight.hand_on()
                return answer
        finally:
            self._flights.leave(question.key)
        recalled = self._recalled(known, question, validate)
        return recalled or self.ladder.ask(client, request, validate, context)

    def recall(
        self, client: ModelClient, request: ModelRequest, validate: Callable[[str], T], context: AttemptContext
    ) -> Answer[T] | None:
        """The answer that is known, counted as a hit; None where it is not, or no longer fits.

        Raises:
            Postponed, StorageFailed: see ``ask``.
        """
        question = _Question(key_of(client, request), client, request, context)
        known = self._known(question)
        return None if known is None else self._recalled(known, question, validate)

    def keep(self, client: ModelClient, request: ModelRequest, answer: Answer[T], context: AttemptContext) -> None:
        """Keeps an answer that was got in another way as the answer to ``request``."""
        self._keep(_Question(key_of(client, request), client, request, context), answer)

    def _known(self, question: _Question) -> _Known | None:
        try:
            return self._recent.get(question.key) or self._stored(question)
        except DatabaseUnavailable as error:  # to ask would be to pay for what may be kept
            raise Postponed(str(error), retry_after=error.retry_after) from error

    def _found_or_asked(self, question: _Question, validate: Callable[[str], T]) -> tuple[Answer[T], _Known]:
        known = self._known(question)
        recalled = self._recalled(known, question, validate) if known is not None else None
        if known is not None and recalled is not None:
            return recalled, known
        answer = self.ladder.ask(question.client, question.request, validate, question.context)
        return answer, self._keep(question, answer)

    def _keep(self, question: _Question, answer: Answer[T]) -> _Known:
        known = _Known(answer.text, _row(question, answer))
        self._recent.put(question.key, known)
        if known.row is not None:
            question.context.attach(CACHED_ANSWERS, known.row)
            self._own.add(question.key)
        return known

    def _stored(self, question: _Question) -> _Known | None:
        """What the store has; it is not asked where it cannot have it."""
        of_model = (question.client.provider, question.client.model)
        filled = self._filled.get(of_model)
        if filled is None:
            filled = self._filled[of_model] = self._store.holds_any(*of_model)
        if not filled and not self._own.may_hold(question.key):
            return None
        text = self._store.find(question.key)
        return None if text is None else _Known(text, None)

    def _recalled(self, known: _Known, question: _Question, validate: Callable[[str], T]) -> Answer[T] | None:
        """A known answer, counted as a hit; None where it no longer fits what is wanted."""
        answer = self.ladder.recall(known.text, question.request, validate, (question.client.model, _ONE_HIT))
        if answer is None:
            return None
        question.context.record_usage(_ONE_HIT)
        question.context.keep_answer(known.text)
        if known.row is not None:  # who asked for it may not have stored it yet
            question.context.attach(CACHED_ANSWERS, {**known.row, "uses": 1})
        else:
            question.context.attach(CACHED_ANSWERS, {"key": question.key, "answer": None, "uses": 1})
        return answer


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    client: ModelClient
    request: ModelRequest
    context: AttemptContext


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer as the model wrote it. ``row`` is what is stored of it; None where it was found in the store."""

    text: str
    row: JsonObject | None


def _row(question: _Question, answer: Answer[T]) -> JsonObject | None:
    """None where the database would change a text: what is kept is what was accepted."""
    if storable(answer.text) != answer.text:
        return None
    return {
        "key": question.key,
        "provider": question.client.provider,
        "model": question.client.model,
        "answer": answer.text,
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "cost_usd": answer.usage.cost_usd,
        "uses": 0,
    }


class _Flight:
    """A question that is being asked by one thread while others wait for its answer."""

    def __init__(self, lock: Lock) -> None:
        self.landed: _Known | None = None
        self.threads = 0
        self._is_led = False
        self._lock = lock  # protects all of it, with the table of flights
        self._changed: Condition | None = None  # made by the first who waits: most questions are asked by one thread

    def wait(self, context: AttemptContext) -> _Known | None:
        """The answer, or None where this thread is the one to ask.

        Raises:
            Interrupted: the run is being stopped.
        """
        with self._lock:
            if self._is_free():
                return self._taken()
        context.about_to_wait()
        with self._lock:
            while not self._is_free():
                context.raise_if_stopping()
                self._changed = self._changed or Condition(self._lock)
                self._changed.wait(_LONGEST_WAIT)
            return self._taken()

    def _is_free(self) -> bool:
        return not self._is_led

    def _taken(self) -> _Known | None:
        """What has landed; where nothing has, this thread leads from now on."""
        self._is_led = self.landed is None
        return self.landed

    def hand_on(self) -> None:
        """This thread has asked. Without an answer one of those who wait is next."""
        with self._lock:
            self._is_led = False
            if self._changed is not None:
                self._changed.notify(1 if self.landed is None else self.threads)


class _Flights:
    """The questions that are being asked in this process."""

    def __init__(self) -> None:
        self._lock = Lock()  # protects _by_key and what is in it
        self._by_key: dict[str, _Flight] = {}

    def join(self, key: str) -> _Flight:
        """The flight of a question, begun by the first; to be left by each who joined it."""
        with self._lock:
            flight = self._by_key.get(key)
            if flight is None:
                flight = self._by_key[key] = _Flight(self._lock)
            flight.threads += 1
            return flight

    def leave(self, key: str) -> None:
        """Forgets the flight with the last."""
        with self._lock:
            flight = self._by_key[key]
            flight.threads -= 1
            if not flight.threads:
                del self._by_key[key]


class _Recent:
    """The answers of the last moment, which the database may not have yet: a bounded number of bytes."""

    def __init__(self) -> None:
        self._lock = Lock()  # protects both below
        self._answers: OrderedDict[str, _Known] = OrderedDict()
        self._characters = 0

    def get(self, key: str) -> _Known | None:
        with self._lock:
            known = self._answers.get(key)
            if known is not None:
                self._answers.move_to_end(key)
            return known

    def put(self, key: str, known: _Known) -> None:
        with self._lock:
            self._forget(self._answers.pop(key, None))
            self._answers[key] = known
            self._characters += len(known.text)
            while self._characters > _REMEMBERED_BYTES:
                self._forget(self._answers.popitem(last=False)[1])

    def _forget(self, known: _Known | None) -> None:
        self._characters -= len(known.text) if known is not None else 0


class _OwnKeys:
    """Which answers this process has attached; so many that they cannot be told apart any more: all may be."""

    def __init__(self) -> None:
        self._keys: set[int] | None = set()

    def add(self, key: str) -> None:
        keys = self._keys
        if keys is None:
            return
        keys.add(hash(key))
        if len(keys) > _OWN_KEYS:
            self._keys = None

    def may_hold(self, key: str) -> bool:
        keys = self._keys
        return keys is None or hash(key) in keys


def key_of(client: ModelClient, request: ModelRequest) -> str:
    """SHA-256 over all that an answer depends on: who is asked, how, by which prompt and schema, about what.

    The address of the server, the key and the time do not belong to it.
    """
    digest = _of_run(
        (client.provider, client.model),
        (request.max_output_tokens, request.temperature),
        request.system,
        request.schema,
        request.examples,
    ).copy()
    digest.update(_encoded([request.user, *(text for turn in request.history for text in turn)]))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _of_run(
    asked: tuple[str, str],
    parameters: tuple[int, float],
    system: str,
    schema: ResponseSchema,
    examples: tuple[tuple[str, str], ...],
) -> hashlib._Hash:
    """The digest of what is the same for all questions of a run; to be copied."""
    shape = json.dumps([schema.name, schema.strict, schema.response_format, schema.bounded_format], ensure_ascii=True)
    turns = [text for turn in examples for text in turn]
    parts = [_ENCODING, *asked, *(repr(parameter) for parameter in parameters), system, shape, *turns]
    return hashlib.sha256(_encoded(parts))


def _encoded(texts: Sequence[str]) -> bytes:
    """Texts so that no two sequences of them look alike: their number, and before each its length in bytes."""
    pieces = [len(texts).to_bytes(8, "big")]
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        pieces += (len(encoded).to_bytes(8, "big"), encoded)
    return b"".join(pieces)
