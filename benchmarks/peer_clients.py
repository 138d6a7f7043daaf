"""One way of asking a model many times at once, with its own defaults. Runs in the peers' virtual environment.

Usage: peer_clients.py WAY BASE_URL PROMPTS ITEMS WORKERS. PROMPTS is a JSON list of {system, user, schema}; they are
asked in turn. Prints what that took: seconds, CPU per item, and how many items ended without an answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

MODEL = "gpt-4o-mini"
KEY = "none"

Prompt = dict[str, Any]


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """As chat completions want them."""
    return [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": prompt["user"]}]


def in_threads(ask: Callable[[Prompt], object], prompts: Sequence[Prompt], workers: int) -> int:
    """How many prompts were answered."""

    def answered(prompt: Prompt) -> bool:
        try:
            return bool(ask(prompt))
        except Exception:  # noqa: BLE001 # lost, whatever the reason
            return False

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(answered, prompts))


def openai_threads(base_url: str, prompts: Sequence[Prompt], workers: int) -> int:
    """The openai SDK's ``create`` in a ThreadPoolExecutor."""
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=base_url)

    def ask(prompt: Prompt) -> object:
        reply = client.chat.completions.create(model=MODEL, messages=messages(prompt), response_format=prompt["schema"])
        return reply.choices[0].message.content

    return in_threads(ask, prompts, workers)


def openai_gather(base_url: str, prompts: Sequence[Prompt], workers: int) -> int:
    """AsyncOpenAI with asyncio.gather behind a semaphore."""
    import openai

    async def all_of_them() -> int:
        free = asyncio.Semaphore(workers)
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url) as client:

            async def ask(prompt: Prompt) -> object:
                async with free:
                    reply = await client.chat.completions.create(
                        model=MODEL, messages=messages(prompt), response_format=prompt["schema"]
                    )
                    return reply.choices[0].message.content

            asked: list[Coroutine[Any, Any, object]] = [ask(prompt) for prompt in prompts]
            came = await asyncio.gather(*asked, return_exceptions=True)
        return sum(isinstance(one, str) and bool(one) for one in came)

    return asyncio.run(all_of_them())


def instructor_threads(base_url: str, prompts: Sequence[Prompt], workers: int) -> int:
    """The library instructor over the openai SDK, in threads."""
    import instructor
    import openai
    from pydantic import BaseModel

    class Value(BaseModel):
        name: str
        value: str
        path: str

    class Answer(BaseModel):
        fields: list[Value]

    client = instructor.from_openai(openai.OpenAI(api_key=KEY, base_url=base_url), mode=instructor.Mode.JSON)

    def ask(prompt: Prompt) -> object:
        return client.chat.completions.create(model=MODEL, messages=messages(prompt), response_model=Answer)

    return in_threads(ask, prompts, workers)


def litellm_threads(base_url: str, prompts: Sequence[Prompt], workers: int) -> int:
    """The ``completion`` of litellm in threads, with the retries that its users switch on (2, as the SDK has)."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch one
    import litellm

    def ask(prompt: Prompt) -> object:
        reply = litellm.completion(
            model=f"openai/{MODEL}",
            messages=messages(prompt),
            api_base=base_url,
            api_key=KEY,
            response_format=prompt["schema"],
            num_retries=2,
        )
        return reply.choices[0].message.content

    return in_threads(ask, prompts, workers)


def langextract_batch(base_url: str, prompts: Sequence[Prompt], workers: int) -> int:
    """The library langextract: its OpenAI model, its own thread pool."""
    from langextract.providers.openai import OpenAILanguageModel

    model = OpenAILanguageModel(model_id=MODEL, api_key=KEY, base_url=base_url, max_workers=workers)
    texts = [f"{prompt['system']}\n\n{prompt['user']}" for prompt in prompts]
    answered = 0
    try:
        for outputs in model.infer(texts, max_workers=workers):
            answered += any(output.output for output in outputs)
    except Exception:  # noqa: BLE001 # one error ends all that come after it
        return answered
    return answered


WAYS: dict[str, Callable[[str, Sequence[Prompt], int], int]] = {
    "openai-threads": openai_threads,
    "openai-gather": openai_gather,
    "instructor": instructor_threads,
    "litellm": litellm_threads,
    "langextract": langextract_batch,
}


def main(way: str, base_url: str, prompts: list[Prompt], counts: tuple[int, int]) -> None:
    """Asks and prints."""
    items, workers = counts
    asked = list(islice(cycle(prompts), items))
    WAYS[way](base_url, asked[:1], 1)  # imports, connections
    started, spent = time.perf_counter(), time.process_time()
    answered = WAYS[way](base_url, asked, workers)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    print(json.dumps({"seconds": seconds, "cpu_ms_per_item": cpu / items * 1000, "lost": items - answered}))


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    main(sys.argv[1], sys.argv[2], given, (int(sys.argv[4]), int(sys.argv[5])))
