"""Where a steered language model loses records: in the autoencoder, in the prior, or in what it makes of its prompt.

    python tests/benchmarks/reconstruction.py BUNDLE TABLE --records 16

BUNDLE is a bundle around a pretrained decoder, TABLE the prepared table's artifact of the same run. Held-out records of
the validation split are encoded, and their posteriors' means go through the decoder as in sampling, nearly greedily.

- written: share of each field that comes out exactly, where the record is valid; a field that every record has in the
  same way says nothing
- chance: the same between records that have nothing to do with each other
- teacher: nats a record and tokens right behind the true text, with the prompt of this record (`own`), of another one
  (`other`), without any (`none`), and with the one that says nothing (`empty`): what the decoder takes from its prompt
  at all
- drafted, of an injector through the vocabulary: share of filled places and of whole fields of the draft that are right
- drafts: the draft of a few records in words, of their own and as the prior draws them
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import torch
import typer
from provenance import provenance
from torch import Tensor

from difflm.models.injection.injector import has_empty_prompt
from difflm.models.injection.vocabulary import NOTHING, VocabularyInjector, exact_fields
from difflm.models.prompt import Prompt, causal_logits
from difflm.synthesis.bundle import Bundle, encode_table, load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.training.record_data import TokenBatches, read_split, tokenize

RESULTS = Path(__file__).parent / "results" / "reconstruction.json"
SHOWN, SEED = 8, 7
NEARLY_GREEDY = 0.01  # temperature


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle")],
    table: Annotated[Path, typer.Argument(help="the prepared table that it was trained on")],
    records: Annotated[int, typer.Option(help="held-out ones")] = 16,
    text_tokens: Annotated[int, typer.Option(help="most tokens of a text")] = 48,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
) -> None:
    """Measure, print and write the record."""
    engine = {"kind": "builtin", "constraint": "llguidance"}  # which also knows schemas of JSON
    sampling = {"temperature": NEARLY_GREEDY, "batch_size": 16, "text_tokens": text_tokens, "attempts": 1}
    config = SamplingConfig.model_validate({**sampling, "engine": engine})
    loaded = load_bundle(bundle, solver=config.solver_settings, precision=torch.float32)
    rows = read_split(table, "validation", loaded.schema)
    rows = rows.take(torch.linspace(0, len(rows) - 1, min(records, len(rows))).long().numpy())
    parts = encode_table(loaded.autoencoder, loaded.parts, loaded.shape, rows, loaded.schema)
    latents_BZ = torch.cat([posterior.mean_BZ for posterior in parts])
    record: dict[str, Any] = {"command": f"reconstruction.py {bundle.name} --records {records}", **provenance()}
    tokens = tokenize(rows, loaded.schema, loaded.parts.tokenizer, loaded.parts.slots)
    batch = TokenBatches.of(tokens, "cpu").at(torch.arange(len(rows)))
    if isinstance(loaded.autoencoder.injector, VocabularyInjector):
        record |= drafted(loaded, loaded.autoencoder.injector, batch["grid_BG"], latents_BZ)
    record["teacher"] = teacher(loaded, batch, latents_BZ)
    print(json.dumps(record, indent=2, ensure_ascii=False), flush=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    record |= written(loaded, config, rows)
    print({name: record[name] for name in ("valid", "written", "chance")})
    out.write_text(json.dumps(record, indent=2) + "\n")


@torch.no_grad()
def drafted(loaded: Bundle, injector: VocabularyInjector, grid_BG: Tensor, latents_BZ: Tensor) -> dict[str, Any]:
    """Compare drafts with the records, and show some of them and of the prior's."""
    wanted_BSR, chosen_BSR = injector.draft(grid_BG), injector(latents_BZ).argmax(dim=-1)
    filled, fields = wanted_BSR != NOTHING, exact_fields(chosen_BSR, wanted_BSR, injector.field_S).float()
    noise = torch.randn(SHOWN, loaded.prior.noise_size, generator=torch.Generator().manual_seed(SEED))
    drawn_BSR = injector(loaded.prior.sample(noise)).argmax(dim=-1)
    shown = {"own": chosen_BSR[:SHOWN], "true": wanted_BSR[:SHOWN].clamp(min=0), "prior": drawn_BSR}
    return {
        "drafted": {
            "tokens": float((chosen_BSR == wanted_BSR)[filled].float().mean()),
            "fields": dict(zip(loaded.schema.names, fields.mean(dim=0).tolist(), strict=True)),
        },
        "drafts": {name: [_words(loaded, injector, one) for one in drafts] for name, drafts in shown.items()},
    }


def _words(loaded: Bundle, injector: VocabularyInjector, draft_SR: Tensor) -> str:
    tokenizer: Any = loaded.parts.tokenizer.tokenizer
    fields = []
    for field in range(int(injector.field_S.max()) + 1):
        places = draft_SR[injector.field_S == field].flatten()
        fields.append(tokenizer.decode(injector.tokens_U[places[places != NOTHING]].tolist()))
    return " | ".join(fields)


@torch.no_grad()
def teacher(loaded: Bundle, batch: Mapping[str, Tensor], latents_BZ: Tensor) -> dict[str, dict[str, float]]:
    """Read the true text behind each record's own prompt, that of another one, none, and the one that says nothing."""
    autoencoder, ids_BT, lengths_B = loaded.autoencoder, batch["ids_BT"], batch["lengths_B"]
    decoder = autoencoder.decoder
    inside_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    read_BT = torch.cat([torch.full((len(ids_BT), 1), decoder.bos_id), ids_BT[:, :-1]], dim=1)
    nothing = Prompt(embeds_BKD=latents_BZ.new_empty(len(ids_BT), 0, decoder.width))
    prompts = {
        "own": autoencoder.inject(latents_BZ),
        "other": autoencoder.inject(latents_BZ.roll(1, dims=0)),
        "none": nothing,
    }
    if has_empty_prompt(autoencoder.injector):
        prompts["empty"] = autoencoder.empty_prompt(len(ids_BT))
    found = {}
    for name, prompt in prompts.items():
        logits = causal_logits(decoder.model, prompt, read_BT)
        nats_BT = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), ids_BT, reduction="none")
        right = (logits.argmax(dim=-1) == ids_BT)[inside_BT].float().mean()
        found[name] = {"nats": float((nats_BT * inside_BT).sum(dim=1).mean()), "tokens": float(right)}
    return found


def written(loaded: Bundle, config: SamplingConfig, rows: pa.Table) -> dict[str, Any]:
    """Draw each record from its own latent, and compare it field by field."""
    plan = DrawPlans(loaded, text_tokens=config.text_tokens).varied(rows, strength=0.0)
    drawn, account = Synthesizer(loaded, config, plan=plan).draw_valid(range(len(rows)), seed=SEED)
    made = loaded.codec.table_of(record for _, record in drawn)
    asked = rows.take(pa.array([index for index, _ in drawn], pa.int64()))
    others = rows.take(pa.array([(index + 1) % len(rows) for index, _ in drawn], pa.int64()))
    return {
        "valid": len(drawn) / account.attempts if account.attempts else 0.0,
        "written": {name: _equal(made[name], asked[name]) for name in rows.column_names},
        "chance": {name: _equal(others[name], asked[name]) for name in rows.column_names},
        "read": [[str(one), str(other)] for one, other in _first(asked, made)],
    }


def _first(asked: pa.Table, made: pa.Table) -> Sequence[tuple[Any, Any]]:
    return list(zip(asked.to_pylist(), made.to_pylist(), strict=True))[:SHOWN]


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> float | None:
    pairs = list(zip(one.to_pylist(), other.to_pylist(), strict=True))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


if __name__ == "__main__":
    typer.run(main)
