"""Soft tokens through the vocabulary: how many fields encoder and injector draft, and the frozen model writes, exactly.

    difflm fit-decoder llm/tools --set decoder.cells_per_slot=2 --set decoder.slots_per_value=32
    python tests/benchmarks/drafts.py TABLE DECODER --steps 400

TABLE and DECODER are the artifacts of `prepare` and `fit-decoder`. Drafts are trained without the language model. Then
validation records go through it behind the expected embeddings of their drafts, and behind the embeddings of the true
tokens (`true`: what a perfect draft gives): nats, tokens and whole records that are right.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from provenance import provenance
from torch import Tensor

from difflm.models.decoder import FrozenDecoder
from difflm.models.decoder_store import load_decoder
from difflm.models.injection.vocabulary import exact_fields
from difflm.models.prompt import Prompt, causal_logits
from difflm.records.schema import read_schema
from difflm.training.draft_task import DraftTask, DraftTraining, build_draft_task
from difflm.training.task import TaskSpec

RESULTS = Path(__file__).parent / "results" / "drafts.json"
TEMPERATURES = (1.0, 0.5, 0.1)


def main(
    table: Annotated[Path, typer.Argument(help="the prepared table")],
    folder: Annotated[Path, typer.Argument(help="the decoder's artifact")],
    steps: Annotated[int, typer.Option(help="of the warm-up")] = 400,
    batch_size: Annotated[int, typer.Option(help="records of a step")] = 32,
    latent_per_slot: Annotated[int, typer.Option(help="latent numbers of a slot")] = 16,
    records: Annotated[int, typer.Option(help="validation records through the language model; 0 leaves it out")] = 16,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
) -> None:
    """Train drafts, measure, print and write."""
    config = DraftTraining.model_validate(
        {"draft": {"steps": steps, "batch_size": batch_size}, "encoder": {"latent_per_slot": latent_per_slot}}
    )
    inputs = {"prepare": str(table), "fit-decoder": str(folder)}
    task = build_draft_task(TaskSpec(factory="draft", config=config.model_dump(mode="json"), inputs=inputs), "cpu")
    schema = read_schema(table)
    record: dict[str, Any] = {"command": f"drafts.py TABLE DECODER --steps {steps}", **provenance()}
    record |= {"config": config.model_dump(mode="json"), "train_records": len(task.train), "fields": schema.names}
    record["warm_up"] = warm_up(task)
    record["drafted"] = drafted(task)
    print(record["warm_up"][-1], record["drafted"], flush=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    if records:
        decoder, _ = load_decoder(folder, schema, dtype=torch.float32)
        record["written"] = written(task, decoder, records)
        print(record["written"], flush=True)
        out.write_text(json.dumps(record, indent=2) + "\n")


def warm_up(task: DraftTask) -> list[dict[str, float]]:
    """Train by cross-entropy of the drafts; nats and tokens right of validation as it goes."""
    module, curve, started = task.module, list[dict[str, float]](), time.perf_counter()
    adam = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(task.steps()):
        torch.manual_seed(step)
        for group in adam.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50, 2 * (1 - step / task.steps()) + 0.02)
        loss = module(**task.batch(step, 0, 0, 1))["loss"]
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        adam.step()
        if (step + 1) % 25 == 0 or step + 1 == task.steps():
            with torch.no_grad():
                found = [module(**batch) for _, batch in list(task.validation_batches(0, 1))[:4]]
            means = {name: sum(float(one[name]) for one in found) / len(found) for name in found[0]}
            curve.append({"step": step + 1, "seconds": round(time.perf_counter() - started, 1), **means})
            print(curve[-1], flush=True)
    return curve


@torch.no_grad()
def drafted(task: DraftTask) -> dict[str, Any]:
    """Share of fields and of records whose draft, at the posterior's mean, is right at every token."""
    module: Any = task.module
    found: list[Tensor] = []
    for _, batch in task.validation_batches(0, 1):
        latents_BZ = module.head.posterior(module.encoder(grid_BG=batch["grid_BG"])).mean_BZ
        chosen = module.injector(latents_BZ).argmax(dim=-1)
        found.append(exact_fields(chosen, module.injector.draft(batch["grid_BG"]), module.injector.field_S))
    exact_NF = torch.cat(found).float()
    return {"fields": exact_NF.mean(dim=0).tolist(), "records": float(exact_NF.prod(dim=1).mean())}


@torch.no_grad()
def written(task: DraftTask, decoder: FrozenDecoder, records: int) -> dict[str, Any]:
    """Nats, tokens and fields that the frozen model writes right behind each kind of soft tokens."""
    module: Any = task.module
    batch = task.validation.at(torch.arange(min(records, len(task.validation))))
    latents_BZ = module.head.posterior(module.encoder(grid_BG=batch["grid_BG"])).mean_BZ
    wanted = module.injector.draft(batch["grid_BG"]).clamp(min=0)
    prompts = {"none": latents_BZ.new_empty(len(wanted), 0, decoder.width)}
    prompts["true"] = module.injector.embeddings_UD[wanted].flatten(1, 2)
    for temperature in TEMPERATURES:
        module.injector.temperature = temperature
        prompts[f"draft, tau {temperature:g}"] = module.injector.prompt(latents_BZ).embeds_BKD
    ids_BT, lengths_B = batch["ids_BT"], batch["lengths_B"]
    inside_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    out: dict[str, Any] = {}
    for name, embeds in prompts.items():
        bos_B1 = torch.full((len(ids_BT), 1), decoder.bos_id)
        logits = causal_logits(decoder.model, Prompt(embeds_BKD=embeds), torch.cat([bos_B1, ids_BT[:, :-1]], dim=1))
        nats_BT = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids_BT, reduction="none") * inside_BT
        right_BT = (logits.argmax(dim=-1) == ids_BT) | ~inside_BT
        out[name] = {
            "nats": float(nats_BT.sum(dim=1).mean()),
            "tokens": float(right_BT[inside_BT].float().mean()),
            "records": float(right_BT.all(dim=1).float().mean()),
            "positions": int(embeds.shape[1]),
        }
        print(name, out[name], flush=True)
    return out


if __name__ == "__main__":
    typer.run(main)
