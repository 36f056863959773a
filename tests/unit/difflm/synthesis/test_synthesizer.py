"""The synthesizer: addressed draws, accounts, and valid records from untrained models of every family."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from difflm.diffusion.network import TransformerDenoiserConfig
from difflm.errors import ModelError
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.injection.injector import EmbeddingConfig, InjectorConfig, KvMemoryConfig
from difflm.records.codec import Accepted, Decoded, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.decoding.requests import Address, Prompts
from difflm.synthesis.decoding.requests import Decoded as DecodedTokens
from difflm.synthesis.draws import Draw, DrawAccount
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_PRIOR, TINY_SHAPE, StageFolders, untrained_stages
from difflm.testing.models import DECODER_FAMILIES, save_decoder
from difflm.testing.tables import mixed_table
from difflm.training.diffusion_task import DiffusionPriorConfig

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=16, text_tokens=8)
TRANSFORMER = DiffusionPriorConfig(
    width=16, blocks=1, denoiser=TransformerDenoiserConfig(part_size=4, heads=2), noise_embedding="fourier"
)
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


@pytest.mark.parametrize(
    ("injector", "prior"),
    [
        (KvMemoryConfig(hidden_size=16), TRANSFORMER),
        (EmbeddingConfig(hidden_size=16), TINY_PRIOR.model_copy(update={"noise_embedding": "fourier"})),
    ],
)
def test_every_variant_draws_valid_records_by_their_addresses(
    injector: InjectorConfig, prior: DiffusionPriorConfig, tmp_path: Path
) -> None:
    table = mixed_table(60).select(DATELESS)
    shape = TINY_SHAPE.model_copy(update={"injector": injector})
    folder = untrained_stages(tmp_path, table, shape=shape, prior=prior).bundle
    bundle = load_bundle(folder, solver=SAMPLING.solver_settings())
    together = _draws(bundle, list(range(12)))
    assert all(draw.record is not None for draw in together)
    assert len({str(draw.record) for draw in together}) == 12
    assert _draws(bundle, [7, 3], batch_size=1) == [together[7], together[3]]
    condition = parse_condition("age > 40", bundle.schema)
    plan = DrawPlans(bundle, text_tokens=8).where(condition)
    assert all(
        draw.record is not None for draw in Synthesizer(bundle, SAMPLING, plan=plan).draw(range(4), seed=1, attempt=0)
    )
    low = load_bundle(folder, solver=SAMPLING.solver_settings(), precision=torch.bfloat16)
    config = SAMPLING.model_copy(update={"precision": "bfloat16"})
    assert all(draw.record is not None for draw in Synthesizer(low, config).draw(range(4), seed=1, attempt=0))


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


class Refusing:
    """A codec of which some texts are no record, and some are its end."""

    def __init__(self, codec: JsonRecordCodec, *, share: float = 1.0, poison: str | None = None) -> None:
        self.codec, self.share, self.poison = codec, share, poison

    def decode(self, text: str) -> Decoded:
        if self.poison is not None and self.poison in text:
            raise KeyError(self.poison)
        refused = zlib.crc32(text.encode()) / 2**32 < self.share
        return Rejected(reason="length", detail="refused") if refused else self.codec.decode(text)


def _refusing(bundle: Bundle, *, attempts: int, **refusal: Any) -> Synthesizer:
    codec = cast(JsonRecordCodec, Refusing(bundle.codec, **refusal))
    return Synthesizer(replace(bundle, codec=codec), SAMPLING.model_copy(update={"attempts": attempts}))


def test_giving_up_names_the_indices(bundle: Bundle) -> None:
    drawn, account = _refusing(bundle, attempts=2).draw_valid([9, 7], seed=0)
    assert drawn == []
    assert account.given_up == [7, 9]
    assert account.attempts == 4
    assert account.rejections == {"length": 4}


def test_what_a_screen_holds_back_is_drawn_again_whoever_draws_it(bundle: Bundle) -> None:
    def odd_ages(table: pa.Table) -> npt.NDArray[np.bool_]:
        return np.array([age % 2 == 1 for age in table["age"].to_pylist()], dtype=np.bool_)

    def drawn(indices: Sequence[int], batch_size: int) -> tuple[dict[int, Any], DrawAccount]:
        config = SAMPLING.model_copy(update={"attempts": 3, "batch_size": batch_size})
        records, account = Synthesizer(bundle, config, screen=odd_ages).draw_valid(indices, seed=5)
        return dict(records), account

    together, account = drawn(range(40), 16)
    assert 0 < len(together) < 40
    assert all(record["age"] % 2 == 1 for record in together.values())
    assert account.attempts == len(together) + account.rejections.total()
    assert account.rejections["privacy"] > 10
    assert account.given_up == [index for index in range(40) if index not in together]
    parts = [drawn(range(25), 7), drawn(range(25, 40), 3)]
    assert parts[0][0] | parts[1][0] == together
    assert parts[0][1].rejections + parts[1][1].rejections == account.rejections


def test_rejected_indices_are_drawn_again_with_the_next_attempt(bundle: Bundle) -> None:
    synthesizer = _refusing(bundle, attempts=3, share=0.5)
    draws = list(synthesizer.stream(range(90), seed=2))
    by_index: dict[int, list[Draw]] = {}
    for draw in draws:
        by_index.setdefault(draw.index, []).append(draw)
    assert sorted(by_index) == list(range(90))
    for attempts in by_index.values():
        assert [draw.attempt for draw in attempts] == list(range(len(attempts)))
        assert all(draw.record is None for draw in attempts[:-1])
        assert attempts[-1].record is not None or len(attempts) == 3
    assert {len(attempts) for attempts in by_index.values()} == {1, 2, 3}
    again = [draw for attempts in by_index.values() for draw in attempts if draw.attempt == 1]
    assert synthesizer.draw([draw.index for draw in again], seed=2, attempt=1) == again


def test_a_stream_reads_its_indices_as_they_are_needed(bundle: Bundle) -> None:
    indices = count()
    stream = Synthesizer(bundle, SAMPLING).stream(indices, seed=0)
    assert len({draw.index for draw in islice(stream, 60)}) > 30
    assert next(indices) <= 60 + 2 * SAMPLING.batch_size


def test_a_codec_that_raises_costs_its_record_only(bundle: Bundle) -> None:
    wanted = _draws(bundle, list(range(40)))
    poison = next(str(draw.record["city"]) for draw in wanted if draw.record is not None and draw.record["city"])
    found = _refusing(bundle, attempts=1, share=0.0, poison=f'"{poison}"').draw(range(40), seed=1, attempt=0)
    broken = [draw for draw in found if draw.reason == "codec_error"]
    assert broken
    assert all(draw.record is None and "KeyError" in str(draw.detail) for draw in broken)
    assert [draw for draw in found if draw not in broken] == [
        draw for draw, other in zip(wanted, found, strict=True) if other not in broken
    ]


def test_a_latent_of_nan_is_a_draw_without_a_record(bundle: Bundle) -> None:
    class SickLatents:
        noise_size = bundle.prior.noise_size

        def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
            latents_NZ = bundle.prior.sample(noise_NM)
            latents_NZ[[index == 5 for index in indices]] = torch.nan
            return latents_NZ

    plain = DrawPlans(bundle, text_tokens=SAMPLING.text_tokens).plain()
    synthesizer = Synthesizer(bundle, SAMPLING, plan=replace(plain, latents=SickLatents()))
    found, wanted = synthesizer.draw(range(20), seed=1, attempt=0), _draws(bundle, list(range(20)))
    assert found[5].reason == "not_finite"
    assert [draw for draw in found if draw.index != 5] == [draw for draw in wanted if draw.index != 5]


def test_greedy_draws_do_not_depend_on_the_tokens_numbers(bundle: Bundle) -> None:
    """With `top_k` 1 only the latent is drawn."""
    greedy = Synthesizer(bundle, SAMPLING.model_copy(update={"top_k": 1}))
    prompts = greedy.prompts([Address(index=index, attempt=0) for index in range(6)], seed=1)
    records = {}
    for shift in (0.0, 0.5):
        uniforms_NT = (prompts.uniforms_NT + shift) % 1.0
        source = Once(replace(prompts, uniforms_NT=uniforms_NT))
        records[shift] = {item.address.index: item.tokens for item in greedy.engine.decode(source)}
    assert records[0.0] == records[0.5]


class Once:
    """A source of one batch of prompts."""

    def __init__(self, prompts: Prompts) -> None:
        self.left: Prompts | None = prompts

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        left, self.left = self.left, None
        return left


def test_bfloat16_draws_valid_records_too(tiny_stages: StageFolders) -> None:
    low = load_bundle(tiny_stages.bundle, precision=torch.bfloat16)
    assert low.autoencoder.decoder.embeddings_VD.dtype == torch.bfloat16
    draws = Synthesizer(low, SAMPLING.model_copy(update={"precision": "bfloat16"})).draw(range(12), seed=0, attempt=0)
    assert {draw.reason for draw in draws} <= {None, "datetime", "range", "length"}


@pytest.mark.parametrize(("limit", "chosen"), [("AVX2", "float32"), ("ALL", "bfloat16")])
def test_under_auto_the_processor_decides(
    tiny_stages: StageFolders, monkeypatch: pytest.MonkeyPatch, limit: str, chosen: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    named = SAMPLING.model_copy(update={"precision": chosen})
    draws = []
    for config in (SAMPLING.model_copy(update={"precision": "auto"}), named):
        bundle = load_bundle(tiny_stages.bundle, solver=config.solver_settings(), precision=config.dtype())
        assert bundle.autoencoder.decoder.embeddings_VD.dtype == getattr(torch, chosen)
        synthesizer = Synthesizer(bundle, config)
        assert synthesizer.config.precision == chosen
        draws.append(synthesizer.draw(range(12), seed=0, attempt=0))
    assert draws[0] == draws[1]


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


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 10**8},
        {"sigma_max": 1e39},
        {"sigma_max": float("inf")},
        {"sigma_min": 1e-300},
        {"rho": 1e-5},
        {"rho": 1e308},
    ],
)
def test_levels_of_noise_that_no_solver_gets_through_are_refused(given: dict[str, float]) -> None:
    """They come with a generator from elsewhere."""
    with pytest.raises(ValidationError, match=next(iter(given))):
        SamplingConfig.model_validate(given)


def test_a_text_that_loops_is_rejected(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {**next(draw.record for draw in _draws(bundle, [*range(20)]) if draw.record), "note": "and so " * 6}
    synthesizer = Synthesizer(bundle, SAMPLING)
    monkeypatch.setattr(type(bundle.codec), "decode", lambda codec, text: Accepted(record=record))
    draw = synthesizer.parse(DecodedTokens(address=Address(index=0, attempt=0), tokens=[]))
    assert draw.record is None
    assert (draw.reason, str(draw.detail).partition(":")[0]) == ("repetition", "'note'")
    monkeypatch.setattr(
        type(bundle.codec), "decode", lambda codec, text: Accepted(record={**record, "note": "and so on"})
    )
    assert synthesizer.parse(DecodedTokens(address=Address(index=0, attempt=0), tokens=[])).record is not None
