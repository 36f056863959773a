"""The synthesizer: addressed draws, accounts, and valid records from untrained models of every family."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from difflm.errors import ModelError
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.records.codec import Accepted
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.synthesizer import Draw, SamplingConfig, Synthesizer
from difflm.synthesis.workers import EncodeWorker, SynthesisWorker
from difflm.testing.bundles import StageFolders, untrained_stages
from difflm.testing.models import DECODER_FAMILIES, save_decoder
from difflm.testing.tables import mixed_table
from difflm.training.diffusion_task import read_latents

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=16, text_tokens=8)
DATELESS = ["age", "wage", "city", "member", "unit", "label"]


@pytest.fixture(scope="module")
def bundle(tiny_stages: StageFolders) -> Bundle:
    return load_bundle(tiny_stages.bundle)


def _draws(bundle: Bundle, indices: list[int], *, batch_size: int = 16, attempt: int = 0, seed: int = 1) -> list[Draw]:
    config = SAMPLING.model_copy(update={"batch_size": batch_size})
    return Synthesizer(bundle, config).draw(indices, seed=seed, attempt=attempt)


def test_a_draw_depends_on_its_address_only(bundle: Bundle) -> None:
    indices = list(range(20))
    together = _draws(bundle, indices)
    assert [draw.index for draw in together] == indices
    assert _draws(bundle, indices, batch_size=3) == together
    assert _draws(bundle, indices[::-1], batch_size=7) == together[::-1]
    assert _draws(bundle, [13], batch_size=1) == [together[13]]


def test_other_seeds_and_attempts_are_other_draws(bundle: Bundle) -> None:
    first = [draw.record for draw in _draws(bundle, list(range(8)))]
    assert [draw.record for draw in _draws(bundle, list(range(8)), attempt=1)] != first
    assert [draw.record for draw in _draws(bundle, list(range(8)), seed=2)] != first
    assert _draws(bundle, [2**40], attempt=3)[0].index == 2**40


def test_rejected_draws_have_a_reason_and_are_counted(bundle: Bundle) -> None:
    synthesizer = Synthesizer(bundle, SAMPLING.model_copy(update={"attempts": 3}))
    indices = range(100, 140)
    drawn, account = synthesizer.draw_valid(indices, seed=5)
    assert [index for index, _ in drawn] == [index for index in indices if index not in account.given_up]
    assert account.attempts == len(drawn) + account.rejections.total()
    assert account.attempts <= 3 * len(indices)
    assert set(account.rejections) <= {"datetime", "range", "length"}
    for _, record in drawn:
        assert isinstance(bundle.codec.decode(bundle.codec.encode(record)), Accepted)


def test_giving_up_names_the_indices(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer = Synthesizer(bundle, SAMPLING.model_copy(update={"attempts": 2}))

    def reject(indices: list[int], *, seed: int, attempt: int) -> list[Draw]:
        return [Draw(index=index, attempt=attempt, record=None, reason="length") for index in indices]

    monkeypatch.setattr(synthesizer, "draw", reject)
    drawn, account = synthesizer.draw_valid([7, 9], seed=0)
    assert drawn == []
    assert account.given_up == [7, 9]
    assert account.attempts == 4
    assert account.rejections == {"length": 4}


def test_bfloat16_draws_valid_records_too(tiny_stages: StageFolders) -> None:
    low = load_bundle(tiny_stages.bundle, precision=torch.bfloat16)
    assert low.autoencoder.decoder.embeddings_VD.dtype == torch.bfloat16
    draws = Synthesizer(low, SAMPLING.model_copy(update={"precision": "bfloat16"})).draw(range(12), seed=0, attempt=0)
    assert {draw.reason for draw in draws} <= {None, "datetime", "range", "length"}


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_every_decoder_family_writes_only_valid_records(
    family: str, saved_decoder: Callable[[str], Path], tmp_path: Path
) -> None:
    config = PretrainedDecoderConfig(model=str(saved_decoder(family)), dtype="float32")
    stages = untrained_stages(tmp_path, mixed_table(40).select(DATELESS), decoder=config)
    synthesizer = Synthesizer(load_bundle(stages.bundle), SAMPLING)
    draws = synthesizer.draw(range(40), seed=3, attempt=0)
    assert all(draw.record is not None for draw in draws)
    assert len({str(draw.record) for draw in draws}) > 30
    assert not list((stages.bundle / "decoder").glob("model*"))  # a pretrained decoder stays where it is


def test_a_decoder_with_too_few_positions_for_the_text_is_named(tmp_path: Path) -> None:
    model = save_decoder(tmp_path / "model", "gpt2", positions=300)
    table = pa.table({"note": [f"{'the quick brown fox ' * 15}{index}" for index in range(30)]})
    config = PretrainedDecoderConfig(model=str(model), dtype="float32")
    loaded = load_bundle(untrained_stages(tmp_path / "stages", table, decoder=config).bundle)
    Synthesizer(loaded, SAMPLING)
    with pytest.raises(ModelError, match=r"reads 300 positions.*lower sampling\.text_tokens"):
        Synthesizer(loaded, SAMPLING.model_copy(update={"text_tokens": 290}))


class Shard:
    id, start, stop = "00003", 30, 55


def test_workers_write_latents_and_records(tiny_stages: StageFolders, tmp_path: Path) -> None:
    folders = {
        "prepare": str(tiny_stages.prepared),
        "fit-decoder": str(tiny_stages.decoder),
        "train-autoencoder": str(tiny_stages.autoencoder),
    }
    account = EncodeWorker({**folders, "output": str(tmp_path / "latents")}).run(Shard())
    assert account == {"shard": "00003", "rows": 25}
    mean, log_variance = read_latents(tmp_path / "latents")
    assert mean.shape == log_variance.shape
    again = EncodeWorker({**folders, "output": str(tmp_path / "again")})
    again.run(Shard())
    torch.testing.assert_close(read_latents(tmp_path / "again")[0], mean, atol=0, rtol=0)  # the mean, no sample

    args = {"bundle": str(tiny_stages.bundle), "sampling": SAMPLING.model_dump(mode="json"), "seed": 4}
    facts = SynthesisWorker({**args, "output": str(tmp_path / "rows")}).run(Shard())
    (part,) = sorted((tmp_path / "rows").glob("part-*.parquet"))
    table = pq.read_table(part)
    assert facts["rows"] == len(table)
    assert table.column_names == mixed_table(1).column_names
    assert set(table["member"].to_pylist()) <= {"TRUE", "FALSE"}  # the source's spelling
