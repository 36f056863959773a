"""In-context prompting: a language model behind any OpenAI-compatible endpoint, or in this process, sees the schema and
a few real rows.

The 5-shot form of the DiffLM paper's baselines (arXiv 2411.03250): nothing is trained. Each request shows other
training rows and asks for as many new ones, a JSON object a line. A line that is no record of the schema is left out
and counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.errors import ConfigError, SynthesisError
from difflm.records.codec import Accepted
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.columns import arrow_schema
from difflm.records.schema import CategoricalField, DecimalField, Field, IntegerField, Record, RecordSchema
from difflm.seeding import derive_seed
from difflm_evaluators.judge.client import OpenAIClient, Reply, Request, RequestRefused, TransientFault
from difflm_evaluators.judge.local_client import LocalClient, open_client
from difflm_evaluators.judge.settings import JudgeSettings, find_endpoint

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_jobs.benchmark.own import Job

SYSTEM = (
    "You write synthetic rows of a table: new, realistic and as varied as the real ones. You reply with one JSON "
    "object a line and nothing around them."
)
MOST_CATEGORIES = 50
SAFETY_S = 5.0
"""Before the end of the minutes, so that the rows that came are kept."""
_FENCE = re.compile(r"^```.*$", re.MULTILINE)


@dataclass(slots=True)
class Harvest:
    """The records that came, what was asked and used for them, why lines were left out, and attempts that failed."""

    records: list[Record] = field(default_factory=list)
    requests: int = 0
    tokens: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


def fit(train: pa.Table, job: Job) -> pa.Table:
    """Return the training rows, which examples are drawn from; refuse what cannot be asked."""
    if job.settings["model"] is None:
        raise ConfigError(
            "in-context prompting needs a model at an endpoint, or a package's; give --set icl.model=NAME"
        )
    return train


def sample(train: pa.Table, job: Job) -> pa.Table:
    """Ask until enough rows have come, the minutes are over, or as many requests were made as are allowed."""
    import pyarrow as pa

    settings = job.settings
    asked = {key: settings[key] for key in ("model", "base_url", "api_key_env")}
    endpoint = find_endpoint(JudgeSettings(**asked), os.environ)
    harvest = asyncio.run(_harvest(open_client(endpoint, settings["model"], max(1.0, job.seconds_left)), train, job))
    lines = len(harvest.records) + sum(harvest.rejections.values())
    job.notes.append(f"{harvest.requests:,} requests, {harvest.tokens:,} tokens")
    if harvest.rejections:
        left_out = lines - len(harvest.records)
        job.notes.append(
            f"{left_out:,} of {lines:,} rows were no records of the schema: {_counted(harvest.rejections)}"
        )
    if harvest.faults:
        job.notes.append(f"attempts that failed: {_counted(harvest.faults)}")
    if not harvest.records:
        why = f" ({_counted(harvest.faults)})" if harvest.faults else ""
        remedy = "look at the endpoint, or take another model" if harvest.faults else "take another model"
        raise SynthesisError(f"{harvest.requests} requests brought no record of the schema{why}; {remedy}")
    return pa.Table.from_pylist(harvest.records[: job.rows], schema=arrow_schema(job.schema))


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


async def _harvest(client: OpenAIClient | LocalClient, train: pa.Table, job: Job) -> Harvest:
    settings = job.settings
    most = settings["max_requests"] or 3 * -(-job.rows // settings["rows_per_request"]) + 10
    harvest, codec = Harvest(), JsonRecordCodec(job.schema)

    async def work() -> None:
        while len(harvest.records) < job.rows and harvest.requests < most and job.seconds_left > SAFETY_S:
            number = harvest.requests
            harvest.requests += 1
            random = np.random.default_rng(derive_seed(job.seed, "icl", number))
            rows = np.sort(random.choice(train.num_rows, size=min(settings["shots"], train.num_rows), replace=False))
            reply = await _asked(client, _request(codec, train.take(rows), job), job, harvest)
            if reply is not None:
                harvest.tokens += reply.used.total if reply.used is not None else 0
                read_reply(reply.content, codec, harvest)

    try:
        async with asyncio.timeout(max(1.0, job.seconds_left - SAFETY_S)), asyncio.TaskGroup() as group:
            for _ in range(settings["concurrency"]):
                group.create_task(work())
    except TimeoutError:
        pass  # what came until then is kept
    except ExceptionGroup as failures:  # a wrong key, address or model: no request will work
        raise failures.exceptions[0] from None
    finally:
        await client.close()
    return harvest


async def _asked(client: OpenAIClient | LocalClient, request: Request, job: Job, harvest: Harvest) -> Reply | None:
    """Send a request, again where that may help; None where it is refused, or fails again and again."""
    for attempt in range(6):
        try:
            return await client.send(request)
        except TransientFault as fault:
            harvest.faults[fault.reason] += 1
            pause_s = fault.retry_after_s if fault.retry_after_s is not None else 2.0**attempt
            await asyncio.sleep(min(pause_s, max(0.0, job.seconds_left)))
        except RequestRefused as refusal:
            raise SynthesisError(f"the endpoint refuses the request: {refusal}") from None
    return None


def _request(codec: JsonRecordCodec, examples: pa.Table, job: Job) -> Request:
    settings = job.settings
    return Request(
        messages=[
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": prompt(codec, examples, settings["rows_per_request"])},
        ],
        schema={},
        mode="plain",
        max_output_tokens=settings["max_output_tokens"],
        length_key="max_tokens",
        temperature=settings["temperature"],
    )


def prompt(codec: JsonRecordCodec, examples: pa.Table, rows: int) -> str:
    """Write the schema, the examples and what is wanted."""
    columns = "\n".join(f"- {json.dumps(field.name)}: {_described(field)}" for field in codec.schema.fields)
    shown = "\n".join(codec.encode_table(examples))
    return (
        f"The columns of the table:\n{columns}\n\n{examples.num_rows} of its rows:\n{shown}\n\n"
        f"Write {rows} new rows in the same form, with all columns in this order. Do not repeat the rows above."
    )


def _described(field: Field) -> str:
    """Say in words what a column may hold."""
    match field:
        case CategoricalField():
            values = [json.dumps(value, ensure_ascii=False) for value in field.values[:MOST_CATEGORIES]]
            more = f" and {len(field.values) - MOST_CATEGORIES} more" if len(field.values) > MOST_CATEGORIES else ""
            text = f"one of {', '.join(values)}{more}"
        case IntegerField():
            text = f"a whole number from {field.minimum} to {field.maximum}"
        case DecimalField():
            text = f"a number with {field.decimals} decimals from {field.minimum:g} to {field.maximum:g}"
        case _:
            text = field.kind
    return f"{text}, or null" if field.nullable else text


def read_reply(text: str, codec: JsonRecordCodec, harvest: Harvest) -> None:
    """Read the records of a reply: an object a line, or all of them in one array; fences around them do not count."""
    for line in _lines(_FENCE.sub("", text)):
        found = codec.decode(_in_form(line, codec.schema))
        if isinstance(found, Accepted):
            harvest.records.append(found.record)
        else:
            harvest.rejections[found.reason] += 1


def _lines(text: str) -> list[str]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, list):
        return [json.dumps(each, ensure_ascii=False) for each in whole]
    return [line.strip().rstrip(",") for line in text.splitlines() if line.strip() not in ("", "[", "]")]


def _in_form(line: str, schema: RecordSchema) -> str:
    """Spell an object's numbers with the decimals of the schema, and its keys in order; other text stays as it is."""
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(given, dict) or set(given) != set(schema.names):
        return line
    parts = []
    for each in schema.fields:
        value = given[each.name]
        if isinstance(each, DecimalField) and _countable(value):
            power = f"e{each.exponent}" if each.exponent else ""
            literal = f"{value / 10.0**each.exponent:.{each.decimals}f}{power}"
        elif isinstance(each, IntegerField) and isinstance(value, float) and value.is_integer():
            literal = str(int(value))
        else:
            literal = json.dumps(value, ensure_ascii=False)
        parts.append(f"{json.dumps(each.name, ensure_ascii=False)}: {literal}")
    return "{" + ", ".join(parts) + "}"


def _countable(value: object) -> bool:
    """Whether a value is a number that a float can hold: JSON's whole numbers have no end."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
