"""DP-SGD: clipping record by record, the noise of a step, and what a step tells."""

import math

import pytest
import torch
from torch import Tensor, nn

from difflm.models.compact import CompactDecoderConfig, build_compact_llama
from difflm.models.prompt import Prompt, causal_nll
from difflm.privacy.budget import Steps
from difflm.training.private.clipped_gradients import FLOOR, MARGIN, ClippedGradients
from difflm.training.private.engine import SENSITIVITY, PrivateEngine

VOCABULARY, WIDTH = 40, 32


class _Decoder(nn.Module):
    """A Llama with grouped keys, two layers and a tied embedding behind a fixed prompt."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = CompactDecoderConfig(hidden_size=WIDTH, layers=2, heads=4, key_heads=2, intermediate_size=48)
        self.model = build_compact_llama(config, vocabulary_size=VOCABULARY, bos_id=1, pad_id=0, longest=40)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(3)
        self.prompt_1KD = torch.randn(1, 3, WIDTH) * 0.05

    def nats_B(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        prompt = Prompt(embeds_BKD=self.prompt_1KD.expand(len(ids_BT), -1, -1))
        return causal_nll(self.model, prompt, ids_BT, lengths_B, bos_id=1).sum(dim=1)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.nats_B(**batch).mean()}


def _batch(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids_BT = torch.randint(2, VOCABULARY, (rows, 7), generator=generator)
    ids_BT[:, 3] = ids_BT[:, 1]  # a token twice in a record: its embedding has two gradients
    return {"ids_BT": ids_BT, "lengths_B": torch.randint(3, 8, (rows,), generator=generator)}


def _engine(decoder: _Decoder, *, noise: float, units: int = 100) -> PrivateEngine:
    return PrivateEngine(
        decoder,
        steps=Steps(rate=0.1, noise=noise, steps=10),
        units=units,
        largest_nats=50.0,
        chunk_rows=3,
        device=torch.device("cpu"),
        precision="float32",
    )


def _one_by_one(decoder: _Decoder, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Clip by brute force: a backward pass for every record."""
    sums = {name: torch.zeros_like(value) for name, value in decoder.model.named_parameters()}
    for row in range(len(batch["lengths_B"])):
        decoder.model.zero_grad()
        decoder.nats_B(**{name: value[row : row + 1] for name, value in batch.items()}).sum().backward()  # type: ignore[no-untyped-call]
        gradients = {name: value.grad for name, value in decoder.model.named_parameters() if value.grad is not None}
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            sums[name] += gradient * MARGIN / (norm + FLOOR)
    decoder.model.zero_grad()
    return sums


def test_the_sum_is_that_of_gradients_clipped_one_by_one() -> None:
    decoder, batch = _Decoder(), _batch(5)
    sums, nats_B = ClippedGradients(model=decoder.model)(lambda: decoder.nats_B(**batch))
    wanted = _one_by_one(decoder, batch)
    assert sums.keys() == wanted.keys()
    for name, value in wanted.items():
        assert sums[name] == pytest.approx(value, abs=2e-6), name
    assert nats_B == pytest.approx(decoder.nats_B(**batch).detach(), rel=1e-5)


def test_a_record_moves_the_sum_by_less_than_one() -> None:
    decoder = _Decoder()
    sums, _ = ClippedGradients(model=decoder.model)(lambda: decoder.nats_B(**_batch(1)))
    assert math.sqrt(sum(float(value.square().sum()) for value in sums.values())) < 1


def test_in_bfloat16_norms_are_those_of_what_is_added() -> None:
    decoder = _Decoder()
    gradients = ClippedGradients(model=decoder.model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums, _ = gradients(lambda: decoder.nats_B(**_batch(1)))
    assert all(value.dtype == torch.float32 for value in sums.values())
    norm = math.sqrt(sum(float(value.double().square().sum()) for value in sums.values()))
    assert 0.99 < norm < 1


def test_without_noise_a_step_has_the_mean_over_the_expected_units() -> None:
    decoder, batch = _Decoder(), _batch(5)
    wanted = _one_by_one(decoder, batch)
    _engine(decoder, noise=1e-9).forward(batch)
    for name, value in decoder.model.named_parameters():
        assert value.grad == pytest.approx(wanted[name] / 10, abs=1e-6), name


def test_an_empty_sample_has_nothing_but_noise_of_the_scale() -> None:
    decoder = _Decoder()
    none = {name: value[:0] for name, value in _batch(1).items()}
    _engine(decoder, noise=2.0).forward(none)
    found = torch.cat([value.grad.flatten() for value in decoder.model.parameters() if value.grad is not None])
    assert float(found.std()) * 10 == pytest.approx(2.0 * SENSITIVITY, rel=0.05)


def test_noise_is_another_one_whatever_the_seed() -> None:
    decoder, none = _Decoder(), {name: value[:0] for name, value in _batch(1).items()}
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(float(_engine(decoder, noise=1.0).forward(none)["loss"]))
    assert losses[0] != losses[1]


def test_the_logged_loss_is_noisy_and_right_on_average() -> None:
    decoder, batch = _Decoder(), _batch(5)
    true = float(decoder.nats_B(**batch).detach().clamp(max=50).sum()) / 10
    exact = float(_engine(decoder, noise=1e-9).forward(batch)["loss"])
    assert exact == pytest.approx(true, rel=1e-4)
    assert float(_engine(decoder, noise=5.0).forward(batch)["loss"]) != pytest.approx(true, rel=1e-6)


def test_a_step_changes_the_weights_by_the_learning_rate() -> None:
    decoder = _Decoder()
    before = decoder.model.get_input_embeddings().weight.detach().clone()
    engine = _engine(decoder, noise=1.0)
    engine.forward(_batch(5))
    assert engine.step(1e-3) > 0
    change = (decoder.model.get_input_embeddings().weight.detach() - before).abs()
    assert float(change.max()) == pytest.approx(1e-3, rel=0.1)
