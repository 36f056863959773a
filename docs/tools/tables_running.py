"""Tables of how fast rows come, what the endpoint reaches, and of the records themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from table import RECORDS, Table, record

WORDS = {
    "known_word_share": "words known to training, %",
    "bits_per_character": "bits a character, by Gemma 3 270M",
    "repetition_within": "repeated within a text, %",
    "near_copy_share": "near copies of training records, %",
    "exact_copy_share": "exact copies, %",
    "category_coverage": "categories covered, %",
    "description_length_error": "lengths of descriptions off by, %",
}


@Table
def llm_tools() -> list[list[str]]:
    """Tools that a frozen language model wrote, by the temperature of its draws."""
    made = record("llm_tools")["temperatures"]
    header = ["score", *(f"temperature {heat}, {found['rows']:,} records" for heat, found in made.items()), "real"]
    rows = []
    for name, title in WORDS.items():
        found = [run["scores"][name] for run in made.values()]
        rows.append([title, *(f"{score['value']:.2f}" for score in found), f"{found[-1]['real']:.2f}"])
    return [header, *rows]


@Table
def steering() -> list[list[str]]:
    """How well a frozen language model writes a record behind vectors that were optimised for it alone."""
    made = record("steering")
    names = {"none": "nothing", "copy": "its own token embeddings, as many as it has"}
    rows = [["in front of a record", "nats a record", "next tokens right", "records written exactly"]]
    for name, found in made["rows"].items():
        about = names.get(name) or f"{name} free vector{'' if name == '1' else 's'}"
        rows.append([about, f"{found['nats']:.1f}", *(f"{100 * found[key]:.0f} %" for key in ("teacher", "exact"))])
    return rows


@Table
def decoding() -> list[list[str]]:
    """Rows a second of the decoding engine and what it is compared with."""
    made = record("decoding")
    sides = {
        "engine": "decoding engine, grammar on",
        "generate": "Hugging Face `generate`, batched and cached",
        "forced": "one teacher-forced pass over the same tokens (a limit)",
        "uncached": "one record at a time without a cache",
        "whole draw": "whole draws: noise, prior, decoding, parsing",
    }
    models = {"bundle": "compact decoder", "random_llama_100M": "random Llama of {:.0f} M"}
    parameters = {key: made[key]["decoder_parameters"] / 1e6 for key in models}
    header = ["rows a second", *(title.format(parameters[key]) for key, title in models.items())]
    rows = []
    for side, title in sides.items():
        cells = []
        for key in models:
            found = made[key]["sides"].get(side)
            speed = 0.0 if found is None else found["rows_per_second"]
            cells.append("" if found is None else f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}")
        rows.append([title, *cells])
    for other in ("generate", "forced", "uncached"):
        ratios = [f"{made[key]['ratios'][f'engine / {other}']:.2f}" for key in models]
        rows.append([f"engine over `{other}`", *ratios])
    return [header, *rows]


@Table
def scaling() -> list[list[str]]:
    """Rows a second and memory by workers and rows."""
    header = ["job", "rows", "workers", "seconds", "rows a second", "memory of driver", "of a worker"]
    rows = []
    for name in ("scaling", "scaling_million"):
        for job in record(name)["jobs"].values():
            memory = job["peak_rss_mib"]
            worker = max(value for key, value in memory.items() if key.startswith("actor"))
            record_link = f"[record](../tests/benchmarks/results/{name}.json)"
            cells = [
                f"{job['rows']:,}",
                str(job["workers"]),
                f"{job['seconds']:,.0f}",
                f"{job['rows_per_second']:,.0f}",
            ]
            rows.append([record_link, *cells, f"{memory['driver']:,.0f} MiB", f"{worker:,.0f} MiB"])
    return [header, *rows]


@Table
def serving() -> list[list[str]]:
    """Tell what the endpoint reaches, beside the aim."""
    made = record("serving")
    rate, latency, kill, overload = made["rate"], made["latency"], made["kill"], made["overload"]
    alone, loaded, two = latency["alone"], latency["at_70_percent"], made["two"]
    answers = ", ".join(f"{count:,} answers {status}" for status, count in overload["statuses"].items())
    unlike = kill["requests_under_way"] - kill["with_the_same_rows_as_without_a_kill"]
    until = sorted(kill["seconds_until_a_new_request_is_answered"])
    return [
        ["", "measured", "the aim"],
        ["rows a second of 8 streams over those of the engine alone", f"{rate['streamed_over_offline']:.2f}", "0.85"],
        ["first row of a large stream over a lone request for one row", f"{latency['first_row_over_alone']:.2f}", "2"],
        [
            "SIGKILL of the replica under load: answers that differ, and until the next answer",
            f"{unlike} of {kill['requests_under_way']}, {until[0]:.1f} to {until[-1]:.1f} s",
            "none lost",
        ],
        [
            f"overload for {overload['seconds']:.0f} s",
            f"{answers}; idle again after {overload['recovery_seconds']:.1f} s",
            "no other answer",
        ],
        ["first answer with no replica", f"{made['scaling']['first_answer_from_zero']['seconds']:.1f} s", "seen"],
        [
            "requests made from the server's own OpenAPI document: answers 5xx",
            f"{len(made['fuzz']['failures'])} of {made['fuzz']['cases']:,}",
            "0",
        ],
        [
            f"p99 of one-row requests at 70 % of capacity ({latency['one_row_answers_per_second']:.0f} answers/s)",
            f"{loaded['p99_ms']:.0f} ms, {latency['p99_over_alone']:.1f} times a lone one's {alone['median_ms']:.0f}",
            "3 times, missed",
        ],
        ["rows a second of two replicas over one", f"{two['two_over_one']:.2f}", "1.7, missed"],
    ]


@Table
def watching() -> list[list[str]]:
    """Tell what scores cost while rows are made."""
    streaming, actors = record("streaming"), record("evaluator_actors")
    quality = max(streaming["quality"], key=lambda entry: float(entry["synthetic_rows"]))
    ours, theirs = quality["ours"]["seconds"], quality["sdmetrics"]["seconds"]
    size = f"{quality['synthetic_rows']:,} rows of {quality['columns']} columns"
    return [
        ["", "measured"],
        ["rate of sampling with evaluator actors over that without", f"{actors['median_ratio']:.2f}"],
        [f"shape and trend of {size}, one core", f"{ours:.2f} s"],
        ["the same by SDMetrics' QualityReport", f"{theirs:.1f} s, {quality['times_faster']:.0f} times as long"],
    ]


@Table
def records() -> list[list[str]]:
    """Every record, with its command, commit and date."""
    rows = [["record", "command", "commit", "date"]]
    for path in sorted(RECORDS.glob("*.json")):
        for facts in _facts(record(path.stem)):
            command = facts.get("command", "")
            text = command if isinstance(command, str) else "; ".join(command)
            link = f"[{path.stem}](../tests/benchmarks/results/{path.name})"
            rows.append([link, f"`{text}`" if text else "", f"`{facts['commit']}`", facts.get("date", "")])
            break
    return rows


def _facts(made: Any) -> Iterator[Mapping[str, Any]]:
    """Find the objects of a record that name a commit, the outermost first."""
    if isinstance(made, Mapping):
        if "commit" in made:
            yield made
        for value in made.values():
            yield from _facts(value)
