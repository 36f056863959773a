"""What a latent of few nats learns by: classes of fields that are independent given it; and the fit around them."""

import json
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from difflm.models.autoencoder import AutoencoderShape
from difflm.models.decoder_store import load_decoder, read_parts
from difflm.models.encoder import PooledEncoderConfig
from difflm.models.field_slots import BINS, DigitTokens
from difflm.models.injection.injector import SoftPromptConfig
from difflm.models.steered import (
    ALIKE,
    CLASSES,
    KL_PRICE,
    NEAR,
    TEXT_NATS,
    FieldClasses,
    IndependentFields,
    SteeredDecoderFit,
    liken_numbers,
)
from difflm.records.number_tokens import number_tokens
from difflm.records.schema import read_schema
from difflm.records.tokenization import GridLayout
from difflm.testing.bundles import StageFolders
from difflm.training.steered_task import Steering, unfitted_steered

MINUS, PAD, RED, BLUE, RARE, WORD = 10, 11, 12, 13, 14, 15
VOCABULARY = 16
DIGITS = DigitTokens(
    value_V=torch.tensor([*range(10), *[-1] * 6], dtype=torch.float64),
    base_V=torch.tensor([10] * 10 + [1] * 6, dtype=torch.float64),
    minus_id=MINUS,
)
LAYOUT = GridLayout(widths=(2, 1, 3))
"""A number of two digits, a category and a text."""
KNOTS = ((0.0, 10.0, 20.0, 40.0), (), ())
TRAINED = torch.tensor([[1, 5, BLUE, WORD, WORD, PAD], [0, 3, BLUE, PAD, PAD, PAD], [3, 9, RED, WORD, 1, 2]])


def _classes() -> FieldClasses:
    return FieldClasses.of(TRAINED, LAYOUT, KNOTS, DIGITS, [2])


def test_a_number_has_its_quantile_bin_and_a_category_its_rank() -> None:
    grid = torch.tensor(
        [[0, 0, BLUE], [0, 9, RED], [1, 0, BLUE], [1, 9, RED], [2, 0, RED], [9, 9, RED], [MINUS, 5, BLUE]]
    )
    grid = torch.cat([grid, torch.full((7, 3), PAD)], dim=1)
    found = _classes()(grid)
    assert found[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 0]  # what is beyond the knots is in the outer bins
    assert found[:, 1].tolist() == [0, 1, 0, 1, 1, 1, 0]  # the most frequent first


def test_all_classes_are_of_the_field() -> None:
    wide = torch.arange(VOCABULARY)[:, None].expand(-1, 6)
    assert int(_classes()(wide).max()) < CLASSES == BINS


def test_many_values_share_the_last_class() -> None:
    values, layout = torch.arange(100)[:, None], GridLayout(widths=(1,))
    digits = DigitTokens(value_V=torch.full((200,), -1.0), base_V=torch.ones(200), minus_id=0)
    classes = FieldClasses.of(values.repeat(2, 1), layout, ((),), digits, [])
    found = classes(values)[:, 0]
    assert torch.bincount(found, minlength=CLASSES).tolist() == [1] * (CLASSES - 1) + [100 - CLASSES + 1]
    assert classes(torch.tensor([[150]])).tolist() == [[CLASSES - 1]]  # never seen


def _independent(texts: list[int]) -> IndependentFields:
    torch.manual_seed(0)
    return IndependentFields(3, fields=3, texts=texts, layout=LAYOUT, vocabulary=VOCABULARY)


def test_the_nats_of_fields_are_those_of_their_classes() -> None:
    module, latents = _independent([]), torch.randn(3, 3)
    classes = _classes()(TRAINED)
    nats = module(latents, classes, TRAINED, PAD)
    scores = module.outer(module.hidden(latents)).unflatten(-1, (3, CLASSES)).log_softmax(dim=-1)
    wanted = -sum(scores[torch.arange(3), field, classes[:, field]] for field in range(3))
    torch.testing.assert_close(nats, wanted)


def test_a_text_counts_as_one_field_however_long_it_is() -> None:
    module, latents = _independent([2]), torch.randn(1, 3)
    classes = torch.zeros(1, 3, dtype=torch.long)
    bare = module(latents, classes, torch.tensor([[1, 5, BLUE, PAD, PAD, PAD]]), PAD)
    words = module(latents, classes, torch.tensor([[1, 5, BLUE, WORD, WORD, PAD]]), PAD)
    word = -module.tokens[0](module.hidden(latents)).log_softmax(dim=-1)[0, WORD]
    torch.testing.assert_close(words - bare, (2 * word)[None])
    assert TEXT_NATS > 2
    long = IndependentFields(3, fields=1, texts=[0], layout=GridLayout(widths=(40,)), vocabulary=VOCABULARY)
    nats = long(latents, classes[:, :1], torch.full((1, 40), WORD), PAD)
    word = -long.tokens[0](long.hidden(latents)).log_softmax(dim=-1)[0, WORD]
    torch.testing.assert_close(nats, (TEXT_NATS * word)[None])


class Fit(NamedTuple):
    module: SteeredDecoderFit
    batch: dict[str, torch.Tensor]


def test_names_are_read_with_values_where_the_decoders_folder_says_so(
    any_order_stages: StageFolders, tmp_path: Path
) -> None:
    schema = read_schema(any_order_stages.prepared)
    parts = read_parts(any_order_stages.decoder, schema)
    assert parts.joined_V is not None
    assert parts.joined_V.nonzero().squeeze(1).tolist() == sorted(ids[0] for ids in parts.tokenizer.fixed_ids[:-1])
    older = Path(shutil.copytree(any_order_stages.decoder, tmp_path / "older"))
    facts = json.loads((older / "decoder.json").read_text(encoding="utf-8"))
    assert facts.pop("joined_names") is True
    (older / "decoder.json").write_text(json.dumps(facts), encoding="utf-8")
    assert read_parts(older, schema).joined_V is None
    assert load_decoder(older, schema)[0].joined_V is None


@pytest.fixture
def fit(any_order_stages: StageFolders) -> Fit:
    schema = read_schema(any_order_stages.prepared)
    parts = read_parts(any_order_stages.decoder, schema)
    shape = AutoencoderShape(
        encoder=PooledEncoderConfig(hidden_size=16, layers=1, heads=2, latent_size=4),
        injector=SoftPromptConfig(hidden_size=16, soft_tokens=3, learned_prefix=1, empty=True),
    )
    torch.manual_seed(0)
    module = unfitted_steered(parts, Steering(shape=shape, nats=0.5), [5])
    grid = torch.randint(0, 300, (6, parts.slots.grid.size))
    batch = {
        "ids_BT": torch.randint(0, 300, (6, 9)),
        "lengths_B": torch.tensor([9, 9, 8, 7, 9, 5]),
        "counted_BT": torch.ones(6, 9, dtype=torch.bool),
        "grid_BG": grid,
        "class_BF": torch.zeros(6, len(schema.fields), dtype=torch.long),
        "told_B": torch.tensor([True, True, False, False, False, True]),
    }
    return Fit(module, batch)


def test_the_loss_is_what_the_decoder_and_the_draft_cost(fit: Fit) -> None:
    found = {name: float(value.detach()) for name, value in fit.module(**fit.batch).items()}
    told, empty = found["nats_told"], found["nats_empty"]
    assert found["nats"] == pytest.approx((3 * told + 3 * empty) / 6, rel=1e-5)
    draft = KL_PRICE * max(0.0, found["kl_nats"] - 0.5) + found["independent_nats"]
    assert found["loss"] == pytest.approx((found["nats"] + draft) / float(fit.batch["lengths_B"].float().mean()), 1e-5)


def test_tokens_that_do_not_count_cost_nothing(fit: Fit) -> None:
    none = fit.module(**{**fit.batch, "counted_BT": torch.zeros_like(fit.batch["counted_BT"])})
    assert float(none["nats"].detach()) == 0.0


def test_the_draft_learns_by_the_independent_fields_alone(fit: Fit) -> None:
    """The decoder's loss reaches the injector and not the encoder, which it would lead to say nothing."""
    fit.module(**fit.batch)["nats"].backward()
    grads = {name for name, value in fit.module.named_parameters() if value.grad is not None and bool(value.grad.any())}
    assert not [name for name in grads if name.startswith(("encoder.", "head.", "independent."))]
    assert [name for name in grads if name.startswith("injector.mlp.")]
    assert "injector.empty" in grads
    fit.module.zero_grad(set_to_none=True)
    fit.module(**fit.batch)["independent_nats"].backward()
    grads = {name for name, value in fit.module.named_parameters() if value.grad is not None and bool(value.grad.any())}
    assert grads
    assert all(name.startswith(("encoder.", "head.", "independent.")) for name in grads)


def test_records_that_are_not_told_have_the_empty_prompt(fit: Fit) -> None:
    injector = fit.module.injector
    latents = torch.randn(6, 4)
    vectors = injector(latents, fit.batch["told_B"])
    assert vectors.shape[1] == 4
    told = injector(latents)
    torch.testing.assert_close(vectors[fit.batch["told_B"]], told[fit.batch["told_B"]])
    silent = vectors[~fit.batch["told_B"]]
    torch.testing.assert_close(silent, silent[:1].expand_as(silent))
    assert not torch.allclose(silent[0], told[2])


def test_embeddings_of_near_numbers_begin_alike_and_others_as_they_were() -> None:
    """Correlations are those of the Gaussian process: ALIKE exp(-d^2 / 2 NEAR^2) for tokens of one place."""
    names = number_tokens(whole_digits=4, decimals=2)
    vocabulary = {name: at for at, name in enumerate(["<pad>", "red", *names])}
    torch.manual_seed(0)
    weight = torch.randn(len(vocabulary), 4096) * 0.02
    before = weight.clone()
    liken_numbers(weight, vocabulary)

    def correlation(one: str, other: str) -> float:
        pair = torch.stack([weight[vocabulary[f"\ue000{one}"]], weight[vocabulary[f"\ue000{other}"]]])
        return float(torch.corrcoef(pair)[0, 1])

    for one, other in (("28|0", "29|0"), ("28|0", "48|0"), (".03", ".10"), ("40", "41"), ("12|1", "13|1")):
        apart = abs(float(one.split("|")[0].strip(".")) - float(other.split("|")[0].strip(".")))
        expected = ALIKE * math.exp(-0.5 * (apart / NEAR) ** 2)
        assert correlation(one, other) == pytest.approx(expected, abs=0.05)
    for one, other in (("28|0", "28|1"), ("28|0", ".28"), ("28", ".28"), ("10|0", "90|0")):  # other places, and far
        assert correlation(one, other) == pytest.approx(0.0, abs=0.06)
    assert torch.equal(weight[:2], before[:2])
    assert float(weight.std()) == pytest.approx(float(before.std()), rel=0.05)
