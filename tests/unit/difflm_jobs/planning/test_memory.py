"""Memory that is counted before anything is loaded: known answers of the sources, and the models themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel, GPT2Model, LlamaModel

from difflm.models.autoencoder import AutoencoderShape
from difflm.models.building import build_autoencoder
from difflm.models.compact import CompactDecoderConfig
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.decoder_store import read_parts, unfitted
from difflm.models.injection.vocabulary import VocabularyConfig
from difflm.models.pretrained import LoraConfig, adapted_layers, add_adapters
from difflm.records.schema import read_schema
from difflm.runtime.deepspeed_engine import DeepSpeedEngineConfig
from difflm.runtime.training import PlainEngineConfig
from difflm.testing.bundles import TINY_POOLED_SHAPE, TINY_SHAPE, StageFolders, untrained_stages
from difflm.testing.models import save_decoder, save_encoder
from difflm.testing.tables import mixed_table
from difflm.training.autoencoder_task import AutoencoderConfig
from difflm.training.steered_task import Steering, unfitted_steered
from difflm_jobs.loading import load_experiment
from difflm_jobs.planning.memory import (
    Adapters,
    Passes,
    ProcessMemory,
    Transformer,
    activation_bytes,
    cache_bytes,
    layer_bytes,
    model_states,
)
from difflm_jobs.planning.model_shapes import decoder_shape, pretrained_shape, transformer_shape
from difflm_jobs.planning.sizes import Sizes, autoencoder_size, fitted_parameters
from difflm_jobs.planning.stage_sizes import stage_sizes

BILLION = 10**9
MISTRAL = Transformer(
    parameters=7_248_023_552,
    layers=32,
    width=4096,
    heads=32,
    key_heads=8,
    head_size=128,
    intermediate=14336,
    vocabulary=32768,
)
PAPERS = {
    "mistralai/Mistral-7B-Instruct-v0.3": MISTRAL,
    "meta-llama/Meta-Llama-3-8B-Instruct": replace(MISTRAL, parameters=8_030_261_248, vocabulary=128256),
    "bert-base-uncased": Transformer(
        parameters=109_482_240,
        layers=12,
        width=768,
        heads=12,
        key_heads=12,
        head_size=64,
        intermediate=3072,
        vocabulary=30522,
        gated=False,
    ),
}
ZERO = "runtime.engine={{kind: deepspeed, zero_stage: {}}}"
GPT3 = Transformer(
    parameters=175 * BILLION,
    layers=96,
    width=12288,
    heads=96,
    key_heads=96,
    head_size=128,
    intermediate=4 * 12288,
    vocabulary=51200,
    gated=False,
)


def states(engine: PlainEngineConfig | DeepSpeedEngineConfig, **given: int) -> ProcessMemory:
    sizes = {"trained": 7_500_000_000, "frozen": 0, "frozen_bytes": 2, "workers": 64, **given}
    return model_states(**sizes, autocast=False, engine=engine)  # type: ignore[arg-type]


@pytest.mark.parametrize(("stage", "gb"), [(1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_shards_what_its_paper_says(stage: int, gb: float) -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters in mixed precision on 64 workers."""
    engine = DeepSpeedEngineConfig.model_validate({"zero_stage": stage, "weights": "bfloat16"})
    memory = states(engine)
    assert (memory.trained + memory.gradients + memory.optimizer) / BILLION == pytest.approx(gb, abs=0.05)


def test_without_sharding_a_trained_parameter_takes_16_bytes_and_a_frozen_one_its_own() -> None:
    for engine in (PlainEngineConfig(), DeepSpeedEngineConfig(zero_stage=0)):
        memory = states(engine, frozen=10 * BILLION)
        assert memory.trained + memory.gradients + memory.optimizer == 16 * 7_500_000_000
        assert memory.frozen == 2 * 10 * BILLION


def test_stage_3_shards_frozen_weights_and_keeps_some_gathered() -> None:
    two, three = (
        states(DeepSpeedEngineConfig.model_validate({"zero_stage": stage}), trained=BILLION, frozen=10 * BILLION)
        for stage in (2, 3)
    )
    assert two.frozen == 20 * BILLION
    assert three.frozen == 20 * BILLION / 64
    assert three.buffers - two.buffers == (4 + 2) * BILLION, "a billion of each, as DeepSpeed keeps them"
    assert three.loading == two.loading == 24 * BILLION, "weights are whole before they are sharded"


def test_offloading_moves_the_optimizer_from_the_gpu_to_its_machine() -> None:
    kept, moved = (states(DeepSpeedEngineConfig(offload_optimizer=offload)) for offload in (False, True))
    assert moved.optimizer == moved.gradients == kept.offloaded == 0
    assert moved.offloaded == pytest.approx((12 + 4 + 4) * 7_500_000_000 / 64)
    assert moved.gpu_mib(gpu=True) < kept.gpu_mib(gpu=True)
    assert moved.host_mib(gpu=True) > kept.host_mib(gpu=True)
    assert moved.host_mib(gpu=False) == pytest.approx(kept.host_mib(gpu=False)), "on a CPU it is the same memory"


def test_a_layer_keeps_about_what_korthikanti_et_al_count() -> None:
    """Their Eq. 2 with GPT-3's sizes: (34 + 5 a s / h) h bytes a token; norms in float32 are what is more here."""
    length = 2048
    passes = Passes(tokens=1, length=length, number_bytes=2, trained=True, fused=False)
    theirs = 12288 * (34 + 5 * 96 * length / 12288)
    assert 1 < layer_bytes(GPT3, passes) / theirs < 1.4


def kept_bytes(model: Any, inputs: torch.Tensor) -> int:
    """What autograd keeps of a forward pass for the backward pass, without weights and their copies."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    shapes = {tuple(shape) for p in model.parameters() for shape in (p.shape, p.shape[::-1])}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights and tuple(tensor.shape) not in shapes:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(inputs_embeds=inputs)
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    ("model", "attention", "trained", "least", "most"),
    [
        (LlamaModel, "sdpa", False, 0.95, 1.1),
        (LlamaModel, "eager", False, 0.75, 1.2),
        (GPT2Model, "sdpa", False, 0.75, 1.3),
        (BertModel, "sdpa", True, 0.8, 1.4),
    ],
)
def test_layers_keep_what_autograd_keeps(model: Any, attention: str, trained: bool, least: float, most: float) -> None:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 352}
    config = model.config_class(**sizes, vocab_size=50, attn_implementation=attention)
    if model is LlamaModel:
        config.num_key_value_heads = 2
    built = model(config).requires_grad_(trained).train(trained)
    inputs = torch.randn(3, 90, 128, requires_grad=True)
    passes = Passes(tokens=270, length=90, number_bytes=2, trained=trained, fused=attention == "sdpa", dropout=trained)
    planned = layer_bytes(transformer_shape(built), passes) * 4
    ratio = planned / kept_bytes(built, inputs)
    assert least < ratio < most


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_adapted_layers_keep_what_autograd_keeps(dropout: float) -> None:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 352}
    built = BertModel(BertConfig(**sizes, vocab_size=50)).train()
    lora = LoraConfig(rank=8, dropout=dropout)
    layers = adapted_layers(built, lora.targets).values()
    adapters = Adapters(
        parameters=sum(8 * (read + written) for read, written in layers),
        numbers=sum(read + 8 for read, _ in layers),
        dropout=dropout > 0,
    )
    shape = replace(transformer_shape(built), adapters=adapters)
    add_adapters(built, lora)
    passes = Passes(tokens=270, length=90, number_bytes=2, trained=False, dropout=True)
    planned = activation_bytes(shape, passes) - layer_bytes(shape, passes)
    ratio = planned / kept_bytes(built, torch.randn(3, 90, 128))
    assert 0.85 < ratio < 1.3


def test_the_papers_encoder_with_adapters_needs_no_hub_and_far_less_memory() -> None:
    """Rank 8 on BERT's 12 layers: four matrices of 768 by 768 and two of 768 by 3,072 in each."""
    lora = LoraConfig(rank=8)
    shape = pretrained_shape("bert-base-uncased", causal=False, lora=lora)
    assert shape is not None
    found = shape.adapters
    assert found is not None
    assert found.parameters == 8 * 12 * (4 * (768 + 768) + 2 * (768 + 3072))
    whole, adapted = (
        load_experiment("paper/adult", overrides=overrides)
        for overrides in ([], ["autoencoder.encoder.lora={rank: 8}"])
    )
    memory = [stage_sizes(Sizes.of(config, {}, None))["train-autoencoder"].memory for config in (whole, adapted)]
    assert memory[0] is not None
    assert memory[1] is not None
    base = PAPERS["bert-base-uncased"].parameters
    assert memory[1].frozen - memory[0].frozen == 4 * base
    assert memory[0].trained - memory[1].trained == 4 * (base - found.parameters)
    assert memory[0].optimizer - memory[1].optimizer == pytest.approx(3 * 4 * (base - found.parameters) / 8)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        pytest.param("decoder.attention=sdpa", "decoder.attention=eager", id="scores that are not fused"),
        pytest.param(ZERO.format(2), ZERO.format(3), id="inputs of frozen matrices under ZeRO-3"),
    ],
)
def test_what_keeps_more_for_the_backward_pass(less: str, more: str, tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / "mistral", "mistral")
    found = []
    for setting in (less, more):
        overrides = [f"decoder={{kind: pretrained, model: {folder}}}", setting]
        sizes = Sizes.of(load_experiment("demo", overrides=overrides), {}, None)
        memory = stage_sizes(sizes)["train-autoencoder"].memory
        assert memory is not None
        found.append(memory.activations)
    assert found[1] > found[0]


def test_checkpointing_keeps_the_inputs_of_layers_and_frozen_layers_keep_less() -> None:
    passes = Passes(tokens=1000, length=500, number_bytes=2, trained=False)
    whole = activation_bytes(MISTRAL, passes)
    again = Passes(tokens=1000, length=500, number_bytes=2, trained=False, checkpointing=True)
    assert activation_bytes(MISTRAL, again) < whole / 6
    assert activation_bytes(MISTRAL, again) > 2 * 1000 * 4096 * 32, "2 s b h a layer (Korthikanti et al., section 5)"
    trained = Passes(tokens=1000, length=500, number_bytes=2, trained=True)
    assert activation_bytes(MISTRAL, trained) > whole


def test_the_cache_of_a_known_model() -> None:
    """Mistral 7B keeps 128 KiB a position: 32 layers, 8 key heads of 128, keys and values in bfloat16."""
    assert cache_bytes(MISTRAL, records=2, positions=100, prompt=50, number_bytes=2) == 2 * 2**17 * (150 + 50)


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_models_are_as_their_configurations_say(name: str) -> None:
    assert pretrained_shape(name, causal="bert" not in name) == PAPERS[name]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    return untrained_stages(tmp_path_factory.mktemp("stages"), mixed_table(80))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder") / "bert", "bert")


def _injectors() -> list[dict[str, Any]]:
    return [
        {"kind": "soft_prompt", "soft_tokens": 5, "learned_prefix": 3, "hidden_size": 24},
        {"kind": "kv_memory", "positions": 5, "learned_prefix": 2, "hidden_size": 24},
        {"kind": "embedding", "hidden_size": 24},
    ]


@pytest.mark.parametrize("injector", _injectors(), ids=lambda item: item["kind"])
@pytest.mark.parametrize("encoder", ["compact", "bert", "adapted bert"])
def test_trained_parameters_are_counted_to_the_last_one(
    stages: StageFolders, bert: Path, encoder: str, injector: dict[str, Any]
) -> None:
    chosen = {"kind": "compact", "hidden_size": 16, "layers": 2, "heads": 2, "latent_per_slot": 3}
    if encoder != "compact":
        chosen = {"kind": "pretrained", "model": str(bert), "latent_size": 20}
    if encoder == "adapted bert":
        chosen["lora"] = {"rank": 3, "targets": ["query", "output.dense"]}
    shape = AutoencoderShape.model_validate({"encoder": chosen, "injector": injector})
    config = AutoencoderConfig(encoder=shape.encoder, injector=shape.injector)
    module, parts = build_autoencoder(shape, stages.decoder, read_schema(stages.prepared))
    experiment = load_experiment("demo")
    sizes = Sizes.of(experiment, {}, stages.decoder)
    assert (sizes.layout, sizes.tokens, sizes.counted) == (parts.slots, parts.longest, True)
    found = autoencoder_size(config, transformer_shape(module.decoder.model), sizes.layout)
    assert found is not None
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    assert found.trained == trained
    assert found.positions == module.injector.positions
    frozen = sum(value.numel() for value in module.encoder.parameters() if not value.requires_grad)
    assert found.frozen == frozen
    assert (frozen > 0) == (encoder == "adapted bert")


def test_an_injector_through_the_vocabulary_is_counted_with_what_it_may_write(tmp_path: Path) -> None:
    """Until the table's tokens are known, so many of the vocabulary; each has one trained number."""
    shape = TINY_SHAPE.model_copy(update={"injector": VocabularyConfig(hidden_size=16)})
    llama = PretrainedDecoderConfig(model=str(save_decoder(tmp_path / "llama", "llama")), dtype="float32")
    made = untrained_stages(tmp_path / "stages", mixed_table(60).select(["age"]), decoder=llama, shape=shape)
    kept = AutoencoderShape.model_validate_json((made.autoencoder / "autoencoder.json").read_text())
    assert kept.tokens is not None
    module, parts = build_autoencoder(kept, made.decoder, read_schema(made.prepared))
    config, decoder = AutoencoderConfig(encoder=shape.encoder, injector=shape.injector), module.decoder.model
    found = autoencoder_size(config, transformer_shape(decoder), parts.slots)
    assert found is not None
    assert (found.vocabulary, found.positions) == (len(parts.tokenizer.tokenizer), module.injector.positions)
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    assert found.trained - trained == found.vocabulary - len(kept.tokens)
    settings = [f"decoder={{kind: pretrained, model: {tmp_path / 'llama'}}}", "autoencoder.encoder.kind=compact"]
    soft, written = (
        stage_sizes(Sizes.of(load_experiment("demo", overrides=[*settings, *others]), {}, None))
        for others in ([], ["autoencoder.injector.kind=vocabulary"])
    )
    for stage in ("train-autoencoder", "synthesize"):
        less, more = soft[stage].memory, written[stage].memory
        assert less is not None
        assert more is not None
        assert more.frozen - less.frozen == 4 * found.vocabulary * found.vector_numbers
        assert more.activations > less.activations
    assert "after 600 steps of 64 rows without the decoder" in written["train-autoencoder"].words


def test_a_compact_decoder_and_what_reads_its_prefix_are_counted(stages: StageFolders) -> None:
    _, parts = build_autoencoder(AutoencoderShape(), stages.decoder, read_schema(stages.prepared))
    fit = unfitted(parts)
    config = load_experiment("demo").decoder.model_copy(update=parts.facts["config"])
    vocabulary = len(parts.tokenizer.tokenizer)
    assert isinstance(config, CompactDecoderConfig)
    assert decoder_shape(config.model_copy(update={"vocabulary_size": vocabulary})) == transformer_shape(fit.model)
    layout = Sizes.of(load_experiment("demo"), {}, stages.decoder).layout
    trained = sum(p.numel() for p in fit.parameters())
    assert fitted_parameters(config, layout, vocabulary=vocabulary) == trained


def test_a_decoder_that_is_fitted_beside_a_latent_is_counted(tmp_path: Path) -> None:
    table = mixed_table(40).drop(["note"])  # texts are counted when they are there
    stages = untrained_stages(tmp_path, table, shape=TINY_POOLED_SHAPE, decoder=CompactDecoderConfig())
    parts = read_parts(stages.decoder, read_schema(stages.prepared))
    shape = load_experiment("demo").autoencoder.shape
    fit = unfitted_steered(parts, Steering(shape=shape, nats=2.0), [])
    vocabulary = len(parts.tokenizer.tokenizer)
    config = load_experiment("demo", overrides=[f"decoder.vocabulary_size={vocabulary}"])
    sizes = Sizes.of(config, {}, stages.decoder)
    assert sizes.autoencoder is not None
    assert sizes.decoder == transformer_shape(fit.model)
    counted = sizes.decoder.parameters + sizes.autoencoder.trained + sizes.independent_fields
    assert counted == sum(value.numel() for value in fit.parameters())
    memory = stage_sizes(sizes)["fit-decoder"].memory
    assert memory is not None
    assert memory.trained == 4 * counted


@pytest.mark.parametrize("family", ["mistral", "gpt2"])
def test_a_folder_says_its_shape_and_what_is_out_of_reach_says_none(family: Any, tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / family, family)
    shape = decoder_shape(PretrainedDecoderConfig(model=str(folder)))
    assert shape == transformer_shape(AutoModelForCausalLM.from_pretrained(folder))
    assert shape is not None
    assert (shape.layers, shape.width, shape.key_heads) == (2, 32, 4 if family == "gpt2" else 2)
    assert pretrained_shape(str(tmp_path / "none"), None) is None


def test_a_t5_is_its_encoder_alone(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "t5", "t5")
    shape = pretrained_shape(str(folder), None, causal=False)
    assert shape is not None
    assert (shape.layers, shape.head_size, shape.intermediate) == (2, 8, 48)
