"""Memory of a process that trains or samples, counted from sizes alone, before anything is loaded.

Three published accounts put together; where they leave a choice, the larger figure is taken.

- Model states: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), section 3.1 and figure 1: with AdamW 16 bytes per
  trained parameter, of which ZeRO-1, 2 and 3 shard optimizer state, gradients and weights over the workers. Frozen
  parameters have neither gradient nor state. Added here: the master copy that DeepSpeed keeps of float32 weights too,
  its buckets, and what ZeRO-3 gathers.
- Activations of a transformer layer: Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1: what the backward pass
  reads of every operation; and section 5, "full recomputation": with gradient checkpointing, the input of every layer
  and one layer whole. Gradients flow through the frozen decoder, so its layers count, too, without what only the
  gradients of their weights would need.
- Key/value cache: Pope et al. 2022 (arXiv 2211.05102), section 3.3: two vectors per position, layer and key head.

Allocators take more than is asked for; how much, `tests/benchmarks/memory_plan.py` measures.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from difflm.models.injection.injector import MemoryShape
from difflm.runtime.deepspeed_engine import MAX_BUCKET_NUMBERS

if TYPE_CHECKING:
    from torch import Tensor

    from difflm.runtime.deepspeed_engine import DeepSpeedEngineConfig
    from difflm.runtime.training import PlainEngineConfig

FLOAT32, BFLOAT16 = 4, 2
BYTES = {"float32": FLOAT32, "bfloat16": BFLOAT16}
LIVE_NUMBERS = 1_000_000_000
"""Parameters that DeepSpeed's ZeRO-3 keeps gathered (stage3_max_live_parameters, its default)."""
PROCESS_MIB = 700.0
"""Python with Ray, torch and transformers, with what they load as they work, before any model."""
GPU_MIB = 1024.0
"""An allowance for the context of CUDA and the workspaces of cuBLAS and NCCL; not measured."""
_DRAW_BYTES = 48
"""Of a score while a token is drawn: its copies in float32 and float64, and the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Low-rank adapters on a frozen transformer.

    `numbers` is how many numbers of a token the backward pass reads of all of them: what each reads, and its rank.
    """

    parameters: int
    numbers: int
    dropout: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """The sizes of a transformer that its memory depends on. With adapters, these alone are trained."""

    parameters: int
    layers: int
    width: int
    heads: int
    key_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    gated: bool = True
    adapters: Adapters | None = None

    @property
    def memory_shape(self) -> MemoryShape:
        """The keys and values of its layers."""
        return MemoryShape(layers=self.layers, heads=self.key_heads, head_size=self.head_size)

    def memory_scales(self) -> Tensor:
        """Return ones in place of what only weights tell (see `PromptReader`)."""
        import torch

        return torch.ones(self.layers, 2, 1)

    def embeddings(self, tokens_U: Tensor) -> Tensor:
        """Return numbers in place of embeddings (see `PromptReader`)."""
        import torch

        return torch.empty(len(tokens_U), self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How tokens go through a transformer: `length` is that of a record with its prompt.

    `fused` attention (SDPA) keeps no scores; `number_bytes` is the size of a number in matrix products.
    """

    tokens: int
    length: int
    number_bytes: int
    trained: bool
    fused: bool = True
    dropout: bool = False
    checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """What one process needs at its peak, in bytes, by what it is for.

    `loading` is all weights at once, before they are sharded. `offloaded` and `kept` (data and the best state) are in
    the machine's memory also where the process works on a GPU.
    """

    frozen: float = 0.0
    trained: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    buffers: float = 0.0
    activations: float = 0.0
    cache: float = 0.0
    loading: float = 0.0
    offloaded: float = 0.0
    kept: float = 0.0

    def plus(self, other: ProcessMemory) -> ProcessMemory:
        """Return what both need in one process."""
        return ProcessMemory(
            **{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(ProcessMemory)}
        )

    def parts(self) -> dict[str, float]:
        """Return bytes at the peak of its work, where it computes."""
        return {
            "frozen weights": self.frozen,
            "trained weights": self.trained,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "buffers": self.buffers,
            "activations": self.activations,
            "cache": self.cache,
        }

    @property
    def working(self) -> float:
        """Bytes where it computes: while loading or at the peak of its work, whichever is more."""
        return max(self.loading, sum(self.parts().values()))

    def gpu_mib(self, *, gpu: bool) -> float:
        """Return MiB on a GPU; 0 for a process that has none."""
        return GPU_MIB + self.working / 2**20 if gpu else 0.0

    def host_mib(self, *, gpu: bool) -> float:
        """Return MiB of the machine; weights that go to a GPU are loaded there first."""
        return PROCESS_MIB + (self.offloaded + self.kept + (self.loading if gpu else self.working)) / 2**20


def model_states(
    *,
    trained: int,
    frozen: int,
    frozen_bytes: int,
    autocast: bool,
    engine: PlainEngineConfig | DeepSpeedEngineConfig,
    workers: int,
) -> ProcessMemory:
    """Count weights, gradients and AdamW's state of `trained` float32 and `frozen` others on one of `workers`.

    Buffers are what engines hold beside these: buckets, what is gathered, gradients while AdamW steps, and the bfloat16
    copies of float32 matrices that the backward pass reads under autocast.
    """
    loading = float(FLOAT32 * trained + frozen_bytes * frozen)
    kept = float(FLOAT32 * trained)  # the best state, on the first worker
    if engine.kind == "plain":
        message = FLOAT32 * trained if workers > 1 else 0
        return ProcessMemory(
            frozen=float(frozen_bytes * frozen),
            trained=float(FLOAT32 * trained),
            gradients=float(FLOAT32 * trained),
            optimizer=float(2 * FLOAT32 * trained),
            buffers=float(message + (_casts(trained, frozen, frozen_bytes) if autocast else 0)),
            loading=loading,
            kept=kept,
        )
    stage, size, held_bytes = engine.zero_stage, BYTES[engine.weights], frozen_bytes
    if engine.weights == "bfloat16":
        held_bytes = BFLOAT16
    share = [1.0 / workers if stage >= needed else 1.0 for needed in range(4)]  # what a worker holds of what is sharded
    bucket = size * min(trained, MAX_BUCKET_NUMBERS)
    gathered = size * min(trained, LIVE_NUMBERS) + held_bytes * min(frozen, LIVE_NUMBERS) if stage == 3 else 0
    # From ZeRO-1 on, AdamW steps on a float32 copy of its share of the weights, with their gradients in float32.
    state = (2 if stage == 0 else 3) * FLOAT32 * trained * share[1]
    stepping = 0.0 if stage == 0 else FLOAT32 * trained * share[1]
    offloaded = engine.offload_optimizer
    gradients = size * trained * share[2]
    casts = _casts(trained, frozen, held_bytes) if autocast and size == FLOAT32 else 0
    return ProcessMemory(
        frozen=held_bytes * frozen * share[3],
        trained=size * trained * share[3],
        gradients=0.0 if offloaded and stage >= 2 else gradients,
        optimizer=0.0 if offloaded else state,
        buffers=bucket + gathered + casts + (0.0 if offloaded else stepping),
        loading=loading,
        offloaded=state + stepping + (gradients if stage >= 2 else 0.0) if offloaded else 0.0,
        kept=kept,
    )


def _casts(trained: int, frozen: int, frozen_bytes: int) -> int:
    return BFLOAT16 * (trained + (frozen if frozen_bytes == FLOAT32 else 0))


def layer_bytes(model: Transformer, passes: Passes) -> float:
    """Count what the backward pass reads of one layer (Korthikanti et al., section 4.1, with norms in float32)."""
    attention = model.heads * model.head_size
    # Queries, keys, values, what was read; the MLP's inner vectors, of which a GELU made of single operations has more.
    numbers = 4 * attention + (3 if model.gated else 5) * model.intermediate
    if passes.trained:  # the inputs of matrices
        numbers += 2 * model.width + (model.intermediate if model.gated else 0)
    score_bytes = 0 if passes.fused else FLOAT32 + passes.number_bytes
    mask_bytes = 0
    if passes.dropout:  # masks of one byte; CPUs do not fuse attention with dropout
        mask_bytes, score_bytes = 2 * model.width, 2 * FLOAT32 + 1 + passes.number_bytes
    scores = model.heads * passes.length * score_bytes
    return passes.tokens * (2 * FLOAT32 * model.width + passes.number_bytes * numbers + mask_bytes + scores)


def activation_bytes(model: Transformer, passes: Passes) -> float:
    """Count all layers, and the gradients of the layer under way, which are about as much as it keeps itself."""
    layer = layer_bytes(model, passes)
    if passes.checkpointing:
        return model.layers * FLOAT32 * passes.tokens * model.width + 2 * layer
    return (model.layers + 1) * layer + _adapter_bytes(model, passes)


def _adapter_bytes(model: Transformer, passes: Passes) -> float:
    """Count what each adapter reads, in a copy of its own, and its narrow vectors."""
    if model.adapters is None:
        return 0.0
    mask_bytes = 1 if model.adapters.dropout else 0
    return float(passes.tokens * model.adapters.numbers * (passes.number_bytes + mask_bytes))


def loss_bytes(model: Transformer, *, tokens: int, number_bytes: int) -> float:
    """Count the scores of every token: as they are made, in float32, their logarithms, and the gradient of these."""
    return float(tokens * model.vocabulary * (number_bytes + 3 * FLOAT32))


def reading_bytes(model: Transformer, *, tokens: int, number_bytes: int) -> float:
    """Count one layer's vectors where nothing is kept for a backward pass."""
    inner = max(3 * model.heads * model.head_size, 3 * model.intermediate)
    return float(tokens * (2 * FLOAT32 * model.width + number_bytes * inner))


def cache_bytes(model: Transformer, *, records: int, positions: int, prompt: int, number_bytes: int) -> float:
    """Count keys and values of `records` slots of `positions`, and of as many prompts that were read ahead.

    While slots get longer, one of the two is there twice.
    """
    position = 2 * model.layers * model.key_heads * model.head_size * number_bytes
    return float(records * position * (1.5 * positions + prompt))


def draw_bytes(model: Transformer, *, records: int) -> float:
    """Count the scores of a round of draws, if any token may come next."""
    return float(records * model.vocabulary * _DRAW_BYTES)
