"""The autoencoder: shapes, what is trained, and that the frozen decoder is never changed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from difflm.errors import ModelError
from difflm.models.autoencoder import Autoencoder, AutoencoderShape
from difflm.models.building import build_autoencoder, latent_size
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.decoder_store import DecoderParts, write_tokenizer
from difflm.models.encoder import PretrainedEncoderConfig, encoder_inputs
from difflm.models.injection.injector import EmbeddingConfig, InjectorConfig, KvMemoryConfig, SoftPromptConfig
from difflm.models.injection.prefix import PrefixConfig
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import RecordSchema
from difflm.testing.bundles import TINY_SHAPE, StageFolders
from difflm.testing.models import DECODER_FAMILIES, ENCODER_FAMILIES
from difflm.training.engine import PlainEngine
from difflm.training.optimizer import parameter_groups

INJECTORS = (
    SoftPromptConfig(learned_prefix=2, hidden_size=16),
    KvMemoryConfig(learned_prefix=1, hidden_size=16),
    EmbeddingConfig(hidden_size=16),
)
POOLED = (
    SoftPromptConfig(soft_tokens=3, learned_prefix=1, hidden_size=16),
    KvMemoryConfig(positions=3, learned_prefix=1, hidden_size=16),
    EmbeddingConfig(hidden_size=16),
    PrefixConfig(positions=3, steered=2, rank=2, hidden_size=16),
)


def _schema(stages: StageFolders) -> RecordSchema:
    return RecordSchema.from_json((stages.prepared / "schema.json").read_bytes())


def _batch(
    shape: AutoencoderShape, schema: RecordSchema, parts: DecoderParts, stages: StageFolders
) -> dict[str, torch.Tensor]:
    table = pq.read_table(stages.prepared / "train.parquet").slice(0, 8)
    tokens = parts.tokenizer.encode(JsonRecordCodec(schema).value_literals(table), parts.slots.grid)
    inputs = encoder_inputs(shape.encoder, table, schema, "cpu")(torch.arange(8), torch.from_numpy(tokens.grid_NG))
    ids, lengths = torch.from_numpy(tokens.ids_NT), torch.from_numpy(tokens.lengths_N)
    return {"ids_BT": ids, "lengths_B": lengths, "beta": torch.tensor(0.1), **inputs}


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_frozen_while_training(module: Autoencoder, batch: dict[str, torch.Tensor]) -> None:
    before, trained_before = _digest(module.decoder), _digest(module.injector)
    engine = PlainEngine(module, gradient_clip=1.0, weight_decay=0.1)
    optimized = {id(value) for group in parameter_groups(module, 0.1) for value in group["params"]}
    assert not optimized & {id(value) for value in module.decoder.parameters()}
    engine.set_training(True)
    for _ in range(3):
        engine.backward(engine.forward(batch)["loss"])
        assert all(value.grad is None for value in module.decoder.parameters())
        engine.step(1e-2)
    assert _digest(module.decoder) == before
    assert _digest(module.injector) != trained_before


def test_frozen_means_frozen(tiny_stages: StageFolders) -> None:
    schema = _schema(tiny_stages)
    module, parts = build_autoencoder(TINY_SHAPE, tiny_stages.decoder, schema)
    _check_frozen_while_training(module, _batch(TINY_SHAPE, schema, parts, tiny_stages))


@pytest.mark.parametrize("injector", INJECTORS, ids=lambda config: config.kind)
def test_every_injection_steers_the_compact_decoder(injector: InjectorConfig, tiny_stages: StageFolders) -> None:
    """It lowers the loss of a few records around a decoder that stays as it is, in mixed precision too."""
    schema, shape = _schema(tiny_stages), TINY_SHAPE.model_copy(update={"injector": injector})
    torch.manual_seed(0)
    module, parts = build_autoencoder(shape, tiny_stages.decoder, schema)
    batch = _batch(shape, schema, parts, tiny_stages) | {"beta": torch.tensor(0.0)}
    before = _digest(module.decoder)
    engine = PlainEngine(module, gradient_clip=1.0, precision="bfloat16")
    losses = []
    for _ in range(12):
        loss = engine.forward(batch)["loss"]
        losses.append(float(loss.detach()))
        engine.backward(loss)
        engine.step(1e-2)
    assert losses[-1] < losses[0] - 0.02
    assert _digest(module.decoder) == before
    latents = torch.randn(2, latent_size(shape.encoder, parts.slots))
    assert module.inject(latents).positions == module.injector.positions


def test_forward_adds_beta_times_the_divergence_per_token(tiny_stages: StageFolders) -> None:
    schema = _schema(tiny_stages)
    module, parts = build_autoencoder(TINY_SHAPE, tiny_stages.decoder, schema)
    batch = _batch(TINY_SHAPE, schema, parts, tiny_stages)
    torch.manual_seed(0)
    found = {name: float(value.detach()) for name, value in module(**batch).items()}
    tokens = float(batch["lengths_B"].float().mean())
    wanted = (found["reconstruction_nats"] + 0.1 * found["kl_nats"]) / tokens
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)
    capacity = torch.tensor(found["kl_nats"] - 2.0)
    torch.manual_seed(0)
    half = {
        name: float(value.detach())
        for name, value in module(**batch, capacity=capacity, counted_BT=torch.tensor(0.5)).items()
    }
    assert half["kl_nats"] == found["kl_nats"]
    assert half["reconstruction_nats"] == pytest.approx(found["reconstruction_nats"] / 2, rel=1e-5)
    assert half["loss"] == pytest.approx((half["reconstruction_nats"] + 0.1 * 2.0) / tokens, rel=1e-4)
    free = {name: value.detach() for name, value in module(**batch, capacity=capacity + 3.0).items()}
    assert float(free["loss"]) == pytest.approx(float(free["reconstruction_nats"]) / tokens, rel=1e-5)
    posterior = module.encode({"grid_BG": batch["grid_BG"]})
    assert posterior.mean_BZ.shape == (8, latent_size(TINY_SHAPE.encoder, parts.slots))


@pytest.mark.parametrize(
    ("encoder", "decoder", "injector"),
    [
        *((encoder, decoder, POOLED[0]) for encoder in ENCODER_FAMILIES for decoder in DECODER_FAMILIES),
        *(("bert", decoder, injector) for decoder in ("mistral", "gpt2") for injector in POOLED[1:]),
    ],
)
def test_any_encoder_trains_with_any_decoder_by_any_injection(
    encoder: str,
    decoder: str,
    injector: InjectorConfig,
    saved_encoder: Callable[[str], Path],
    saved_decoder: Callable[[str], Path],
    tiny_stages: StageFolders,
    tmp_path: Path,
) -> None:
    schema = _schema(tiny_stages)
    config = PretrainedDecoderConfig(model=str(saved_decoder(decoder)), dtype="float32")
    literals = JsonRecordCodec(schema).value_literals(pq.read_table(tiny_stages.prepared / "train.parquet"))
    write_tokenizer(tmp_path / "decoder", config, schema, literals)
    shape = AutoencoderShape(
        encoder=PretrainedEncoderConfig(model=str(saved_encoder(encoder)), latent_size=6),
        injector=injector,
    )
    module, parts = build_autoencoder(shape, tmp_path / "decoder", schema)
    batch = _batch(shape, schema, parts, tiny_stages)
    assert module.encode({name: batch[name] for name in ("encoder_ids_BT", "encoder_mask_BT")}).mean_BZ.shape == (8, 6)
    _check_frozen_while_training(module, batch)


def test_mean_pooling_does_not_read_the_padding(saved_encoder: Callable[[str], Path]) -> None:
    from difflm.models.encoder import PretrainedEncoder

    for family in ENCODER_FAMILIES:
        encoder = PretrainedEncoder(PretrainedEncoderConfig(model=str(saved_encoder(family)), latent_size=4)).eval()
        ids = torch.tensor([[5, 6, 7, 8, 9]])
        with torch.no_grad():
            alone = encoder(ids, torch.ones_like(ids))
            padded = encoder(torch.nn.functional.pad(ids, (0, 3)), torch.tensor([[1] * 5 + [0] * 3]))
        torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)
        assert alone.shape == (1, 1, encoder.size)


def test_a_record_longer_than_the_encoder_reads_is_named(
    saved_encoder: Callable[[str], Path], tiny_stages: StageFolders
) -> None:
    schema = _schema(tiny_stages)
    table = pq.read_table(tiny_stages.prepared / "train.parquet")
    config = PretrainedEncoderConfig(model=str(saved_encoder("bert")), longest=8)
    with pytest.raises(ModelError, match=r"record 0 has \d+ tokens.*encoder\.longest"):
        encoder_inputs(config, table, schema, "cpu")


def test_a_decoder_with_too_few_positions_is_named(tiny_stages: StageFolders, tmp_path: Path) -> None:
    from difflm.testing.models import save_decoder

    schema = _schema(tiny_stages)
    config = PretrainedDecoderConfig(model=str(save_decoder(tmp_path / "short", "gpt2", positions=64)), dtype="float32")
    literals = JsonRecordCodec(schema).value_literals(pq.read_table(tiny_stages.prepared / "train.parquet"))
    write_tokenizer(tmp_path / "decoder", config, schema, literals)
    with pytest.raises(ModelError, match=r"reads 64 positions.*lower injector\.soft_tokens"):
        build_autoencoder(TINY_SHAPE, tmp_path / "decoder", schema)
