"""What a grammar costs the decoding loop: our automaton beside llguidance, for the records of one bundle.

    python tests/benchmarks/constraints.py runs/adult/artifacts/bundle-*

Both sides enforce the same language, by the same loop over the same prompts, in one process by turns; a figure is the
median of its repeats.

    step           milliseconds of a batch's allowed tokens and moves, without a model: random walks to their ends,
                   while more than half of them are under way (which of the two computes the masks differs)
    loop           rows a second of the whole decoding loop, decoder included
    compiled       seconds from the schema to a grammar that is ready

`agreement` is the share of llguidance's records whose tokens the automaton accepts too: a run that joins tokens which
training kept apart is not among them.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from provenance import provenance

from difflm.records.codec import Accepted
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.decoding.loop import decode
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.grammar.automaton import Automaton
from difflm.synthesis.grammar.constraint import Constraint
from difflm.synthesis.grammar.guidance import guidance_constraint
from difflm.synthesis.grammar.lark import table_lark
from difflm.synthesis.grammar.tables import table_grammar
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer

RESULT = Path(__file__).parent / "results" / "constraints.json"


@dataclass
class Ready:
    """A source of prompts that are there."""

    prompts: Prompts
    next: int = 0

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        rows = slice(self.next, self.next + most)
        addresses = self.prompts.addresses[rows]
        self.next += len(addresses)
        if not addresses:
            return None
        prompt, uniforms_NT = self.prompts.prompt.rows(rows), self.prompts.uniforms_NT[rows]
        return Prompts(addresses=addresses, prompt=prompt, uniforms_NT=uniforms_NT)


@dataclass
class Steps:
    """Milliseconds of the two calls of a step, and how many steps there were."""

    allowed_ms: list[float] = field(default_factory=list)
    advance_ms: list[float] = field(default_factory=list)


def walked(constraint: Constraint, slots: int) -> Steps:
    """Random walks of so many slots to their ends."""
    generator, steps = torch.Generator().manual_seed(0), Steps()
    walks, slots_N = constraint.walks(slots), torch.arange(slots)
    walks.begin(slots_N, range(slots))
    while len(slots_N := slots_N[~walks.final_N(slots_N)]):
        start = time.perf_counter()
        allowed_BA = walks.allowed_BA()
        middle = time.perf_counter()
        choice_N = torch.multinomial(allowed_BA[slots_N].float(), 1, generator=generator).squeeze(1)
        drawn = time.perf_counter()
        walks.advance(slots_N, choice_N)
        if 2 * len(slots_N) > slots:  # while the batch is full: the loop refills its slots
            steps.allowed_ms.append(1000 * (middle - start))
            steps.advance_ms.append(1000 * (time.perf_counter() - drawn))
    return steps


def timed(run: Callable[[], object]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def step_figures(sides: dict[str, Constraint], slots: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step's two calls, for all slots together."""
    times: dict[str, list[Steps]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, constraint in sides.items():
            times[name].append(walked(constraint, slots))
    return {
        name: {
            "step_ms": round(
                statistics.median(
                    allowed + advance
                    for one in runs
                    for allowed, advance in zip(one.allowed_ms, one.advance_ms, strict=True)
                ),
                3,
            ),
            "allowed_ms": round(statistics.median(ms for one in runs for ms in one.allowed_ms), 3),
            "advance_ms": round(statistics.median(ms for one in runs for ms in one.advance_ms), 3),
        }
        for name, runs in times.items()
    }


def loop_figures(
    sides: dict[str, Constraint], synthesizer: Synthesizer, prompts: Prompts, slots: int, repeats: int
) -> tuple[dict[str, dict[str, Any]], dict[str, list[Decoded]]]:
    """Rows a second of the decoding loop, and each side's records."""
    decoder, times = synthesizer.bundle.autoencoder.decoder, dict[str, list[float]]()
    records: dict[str, list[Decoded]] = {}
    for _ in range(repeats):
        for name, constraint in sides.items():
            source = Ready(prompts)
            seconds, records[name] = timed(
                lambda source=source, constraint=constraint: list(
                    decode(decoder, constraint, source, slots=slots, truncation=Truncation())
                )
            )
            times.setdefault(name, []).append(seconds)
    rows = len(prompts.addresses)
    figures = {
        name: {
            "seconds": [round(value, 3) for value in seconds],
            "rows_per_second": round(rows / statistics.median(seconds), 1),
        }
        for name, seconds in times.items()
    }
    return figures, records


def quality(records: list[Decoded], synthesizer: Synthesizer, automaton: Automaton) -> dict[str, float]:
    """Shares of records that are valid, and that the automaton accepts token by token."""
    bytes_V = synthesizer.bundle.parts.tokenizer.pieces.bytes_V
    texts = [b"".join(bytes_V[token] for token in item.tokens).decode(errors="replace") for item in records]
    valid = [isinstance(synthesizer.bundle.codec.decode(text), Accepted) for text in texts]
    return {
        "valid": round(statistics.fmean(valid), 4),
        "agreement": round(statistics.fmean(automaton.accepts(item.tokens) for item in records), 4),
        "tokens_per_record": round(statistics.fmean(len(item.tokens) for item in records), 2),
    }


@torch.no_grad()
def main(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    rows: Annotated[int, typer.Option(help="rows of a run of the loop")] = 2048,
    repeats: Annotated[int, typer.Option(help="runs of every side")] = 5,
    batches: Annotated[list[int], typer.Option("--batch", help="records under way at a time")] = [256, 512],  # noqa: B006
) -> None:
    """Measure both sides and write them into tests/benchmarks/results/constraints.json."""
    config = SamplingConfig(precision="float32")
    loaded = load_bundle(bundle, solver=config.solver_settings)
    synthesizer = Synthesizer(loaded, config)
    tokenizer = loaded.parts.tokenizer
    ours_s, automaton = timed(lambda: table_grammar(loaded.schema, tokenizer, text_tokens=config.text_tokens))
    theirs_s, guidance = timed(lambda: guidance_constraint(table_lark(loaded.schema), tokenizer.tokenizer))
    sides: dict[str, Constraint] = {"automaton": automaton, "llguidance": guidance}
    prompts = synthesizer.prompts([Address(index=row, attempt=0) for row in range(rows)], seed=1)
    record: dict[str, Any] = {
        "command": "python tests/benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **provenance(),
        "threads": torch.get_num_threads(),
        "vocabulary": len(guidance.tokens_A),
        "active_tokens_of_the_automaton": len(automaton.tokens_A),
        "compiled_s": {"automaton": round(ours_s, 3), "llguidance": round(theirs_s, 3)},
        "batches": {},
    }
    for slots in batches:
        steps = step_figures(sides, slots, repeats)
        loop, records = loop_figures(sides, synthesizer, prompts, slots, repeats)
        record["batches"][str(slots)] = {name: {**steps[name], **loop[name]} for name in sides}
        for name in sides:
            figures = record["batches"][str(slots)][name]
            print(f"batch {slots} {name:12} {figures}", flush=True)
    record["records"] = {name: quality(items, synthesizer, automaton) for name, items in records.items()}
    print(record["records"])
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
