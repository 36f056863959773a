"""A prefix that begins as a text: what the decoder reads of it, what z changes, and whole bundles around it."""

from pathlib import Path

import pytest
import torch

from difflm.errors import ModelError
from difflm.models.decoder import FrozenDecoder, PretrainedDecoderConfig, load_causal_lm
from difflm.models.injection.prefix import PrefixConfig, PrefixInjector
from difflm.models.prompt import Prompt
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import COARSE, SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_SHAPE, untrained_stages
from difflm.testing.models import save_decoder
from difflm.testing.tables import mixed_table
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm.training.task import TaskSpec, build_task

CONFIG = PrefixConfig(positions=5, steered=2, rank=3, hidden_size=8)
SAMPLING = SamplingConfig(steps=2, batch_size=4)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> FrozenDecoder:
    model, _ = load_causal_lm(save_decoder(tmp_path_factory.mktemp("llama"), "llama"))
    return FrozenDecoder(model, bos_id=1, pad_id=0)


def _injector(decoder: FrozenDecoder) -> PrefixInjector:
    torch.manual_seed(0)
    shape = decoder.memory_shape
    return PrefixInjector(
        CONFIG, latent_size=4, layers=shape.layers, heads=shape.heads, head_size=shape.head_size, width=decoder.width
    )


def test_at_first_it_is_read_as_the_text_that_it_begins_as(decoder: FrozenDecoder) -> None:
    injector, text, record = _injector(decoder), torch.tensor([7, 8, 9, 10]), torch.tensor([[11, 12, 13]])
    injector.begin(decoder.memory_of(text))
    ids = torch.cat([torch.tensor([decoder.bos_id]), text, torch.tensor([decoder.bos_id]), record[0]])
    with torch.no_grad():
        scores = decoder.model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
        wanted = -scores[5:8].gather(1, record.T).squeeze(1)
        found = decoder.nll(injector.prompt(torch.randn(1, 4)), record, torch.tensor([3]))[0]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_z_moves_the_last_positions_alone_and_nothing_where_nothing_is_told(decoder: FrozenDecoder) -> None:
    injector = _injector(decoder)
    torch.nn.init.normal_(injector.moves.weight)
    latents = torch.randn(3, 4)
    told = injector(latents)
    silent = injector(latents, torch.tensor([True, False, True]))
    assert told.shape == (3, 5, *injector.vector_shape)
    kept = injector.slowed_KLXHE[:3] * 16.0
    torch.testing.assert_close(told[:, :3], kept.expand(3, *kept.shape))
    assert not torch.equal(told[0, 3:], told[1, 3:])
    torch.testing.assert_close(silent[[0, 2]], told[[0, 2]])
    torch.testing.assert_close(silent[1], injector.slowed_KLXHE * 16.0)


def test_a_text_with_too_few_positions_is_refused(decoder: FrozenDecoder) -> None:
    with pytest.raises(ModelError, match=r"positions is 5, and the decoder attends to 3: lower it"):
        _injector(decoder).begin(decoder.memory_of(torch.tensor([7, 8])))


@pytest.mark.parametrize("keys", [True, False])
def test_a_bundle_draws_records_behind_it_with_and_without_names(keys: bool, tmp_path: Path) -> None:
    model = save_decoder(tmp_path / "llama", "llama")
    table = mixed_table(60).select(["age", "city"])
    config = PretrainedDecoderConfig(model=str(model), dtype="float32", keys=keys)
    shape = TINY_SHAPE.model_copy(update={"injector": CONFIG})
    stages = untrained_stages(tmp_path / "stages", table, decoder=config, shape=shape)
    bundle = load_bundle(stages.bundle, solver=SAMPLING.solver_settings, allow_local_base=True)
    assert bundle.codec.encode({"age": 40, "city": "Oslo"})[0] == ("{" if keys else "[")
    drawn = Synthesizer(bundle, SAMPLING).draw(range(6), seed=1, attempt=0)
    assert all(draw.record is not None and list(draw.record) == ["age", "city"] for draw in drawn)
    assert Synthesizer(bundle, SAMPLING).draw([4], seed=1, attempt=0) == [drawn[4]]
    assert SamplingConfig().solver_settings(bundle.shape) == COARSE
    task = build_task(
        TaskSpec(
            factory="autoencoder",
            config=AutoencoderConfig(injector=CONFIG, encoder=shape.encoder).model_dump(mode="json"),
            inputs={"prepare": str(stages.prepared), "fit-decoder": str(stages.decoder)},
            seed=0,
        ),
        "cpu",
    )
    injector = getattr(task.module, "injector", None)
    assert isinstance(injector, PrefixInjector)
    decoder = bundle.autoencoder.decoder
    ids = bundle.parts.tokenizer.tokenizer("age, city\n", add_special_tokens=False)["input_ids"]
    begun = decoder.memory_of(torch.tensor((ids * 4)[:4])).permute(3, 0, 1, 2, 4)
    torch.testing.assert_close(injector.slowed_KLXHE.detach() * 16.0, begun, atol=1e-5, rtol=1e-4)
    assert isinstance(bundle.autoencoder.empty_prompt(2), Prompt)
