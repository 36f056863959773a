"""Decoding by vLLM: a `DecodingEngine` for large pretrained decoders on GPUs.

Shape legend: N prompts, K soft tokens, D embedding width, T most tokens of a record.

Every record is one request whose prompt is its soft tokens and BOS as embeddings (`prompt_embeds`), and whose grammar
vLLM enforces with the library that `guidance_constraint` uses. It draws its tokens from a generator of its own, seeded
by the record's uniform numbers, and so by (seed, index, attempt): what a record becomes does not depend on which are
decoded together. The draws are other ones than those of the engine in this process, with the same distribution. vLLM's
kernels may add in another order when a batch has another shape, so they repeat only as far as `loop` says of GPUs.

Read in the source of vLLM 0.33.0: names and bounds of all parameters used here. Not run, because the machine that this
was written on has no GPU: vLLM itself, and with it speed, the kernels' support of a compact decoder's narrow heads,
several GPUs, vLLM's own processes inside of an actor of Ray, the memory that the rest of the bundle takes beside it,
and how well a seed repeats. The tests run everything up to vLLM's own calls against `difflm.testing.vllm_double`.

vLLM gives llguidance the decoder's tokenizer as it is. Where that changes text (Qwen2's into NFC) and a schema's names
or categories are not in that form, forced text is a dead end in vLLM; `guidance_constraint` has no such limit.

What is kept off on purpose: penalties, which end the engine when prompts are given as embeddings and differ in length
(vllm issue 57719; here all lengths are equal as well); the prefix cache, since no two prompts begin alike; vLLM's own
detokenizer, since records are spelled from token ids.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from difflm.config import Config
from difflm.errors import ConfigError
from difflm.models.decoder import FrozenDecoder, PretrainedDecoderConfig
from difflm.models.decoder_store import DecoderParts
from difflm.models.loading import loadable
from difflm.models.sources import fetched
from difflm.seeding import derive_seed
from difflm.synthesis.decoding.requests import Address, Decoded, Prompts, PromptSource
from difflm.synthesis.decoding.sampling import Truncation
from difflm.synthesis.grammar.json_schema import GrammarText

_REMEDY = "or leave out sampling.engine, and records are decoded without it"
COLDEST, HOTTEST = 0.01, 2.0  # temperatures; vLLM raises colder ones without an error and refuses hotter ones


class VllmEngineConfig(Config):
    """Records are decoded by vLLM on a GPU."""

    kind: Literal["vllm"] = "vllm"
    requests: int = Field(default=1024, ge=1, description="records handed to vLLM at a time; the last of them are slow")
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="share of the GPU's memory")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share one decoder")
    enforce_eager: bool = Field(default=False, description="no CUDA graphs: slower, and started sooner")


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmModel:
    """What vLLM loads: the model's folder, its tokenizer's folder, and its dtype."""

    model: str
    tokenizer: Path
    dtype: torch.dtype


def vllm_model(folder: Path, parts: DecoderParts, *, dtype: torch.dtype) -> VllmModel:
    """Load the decoder of a bundle's `decoder/` folder."""
    config, tokenizer = parts.facts["config"], folder / "tokenizer"
    if config["kind"] == "compact":
        return VllmModel(model=str(folder / "model"), tokenizer=tokenizer, dtype=dtype)
    pretrained = PretrainedDecoderConfig.model_validate(config)
    model = str(fetched(loadable(pretrained.model), revision=pretrained.revision))
    return VllmModel(model=model, tokenizer=tokenizer, dtype=dtype)


class VllmEngine:
    """vLLM with one decoder loaded.

    `decoder` is the same decoder in this process, of which only the embedding of BOS is read; `positions` is the
    longest prompt and record together, K + 1 + T + 1 tokens; `grammars` gives the grammar of an index.

    Raises ConfigError where vLLM is not installed, or there is no GPU.
    """

    def __init__(
        self,
        config: VllmEngineConfig,
        model: VllmModel,
        decoder: FrozenDecoder,
        *,
        positions: int,
        grammars: Callable[[int], GrammarText],
        truncation: Truncation,
    ) -> None:
        self.config, self.grammars, self.truncation = config, grammars, truncation
        self.bos_1D = decoder.embeddings_VD[decoder.bos_id].detach().cpu()[None]
        self.dtype = model.dtype
        self.vllm = _import_vllm()
        self.llm: Any = self.vllm.LLM(
            model=model.model,
            tokenizer=str(model.tokenizer),
            trust_remote_code=False,
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=positions,
            gpu_memory_utilization=config.gpu_memory_utilization,
            tensor_parallel_size=config.tensor_parallel_size,
            enforce_eager=config.enforce_eager,
            enable_prompt_embeds=True,
            enable_prefix_caching=False,
            structured_outputs_config={"backend": "guidance"},
        )

    def decode(self, source: PromptSource) -> Iterator[Decoded]:
        """Decode as `DecodingEngine` documents, `config.requests` prompts at a time."""
        while (prompts := source.take(self.config.requests, idle=True)) is not None:
            sound = prompts.prompt.embeds_BKD.isfinite().flatten(1).all(dim=1).tolist()
            rows = [row for row, fine in enumerate(sound) if fine]
            yield from (
                Decoded(address=address, tokens=[], failure="not_finite")
                for address, fine in zip(prompts.addresses, sound, strict=True)
                if not fine
            )
            if rows:
                yield from self._decode(prompts, rows)

    def _decode(self, prompts: Prompts, rows: list[int]) -> Iterator[Decoded]:
        addresses = [prompts.addresses[row] for row in rows]
        inputs = [{"prompt_embeds": self._prompt(prompts.prompt.embeds_BKD[row])} for row in rows]
        params = [
            self._params(self.grammars(address.index), prompts.uniforms_NT[row])
            for row, address in zip(rows, addresses, strict=True)
        ]
        outputs = self.llm.generate(inputs, params, use_tqdm=False)
        for address, output in zip(addresses, outputs, strict=True):
            yield _decoded(address, output.outputs[0])

    def _prompt(self, embeds_KD: Tensor) -> Tensor:
        """Append BOS to the soft tokens, (K + 1, D)."""
        return torch.cat([embeds_KD.detach().cpu().to(self.dtype), self.bos_1D.to(self.dtype)])

    def _params(self, grammar: GrammarText, uniforms_T: Tensor) -> Any:
        lark = grammar.kind == "lark"
        structured = self.vllm.sampling_params.StructuredOutputsParams(**{"grammar" if lark else "json": grammar.text})
        return self.vllm.SamplingParams(
            n=1,
            temperature=self.truncation.temperature,
            top_p=self.truncation.top_p,
            top_k=self.truncation.top_k or 0,
            seed=derive_seed("vllm", uniforms_T.cpu().numpy().tobytes()) >> 1,  # vLLM keeps 64 bits with a sign
            max_tokens=len(uniforms_T) + 1,  # EOS is one of them
            detokenize=False,
            structured_outputs=structured,
        )


def _decoded(address: Address, completion: Any) -> Decoded:
    """Convert a completion: `stop` means that the grammar ended; any other reason leaves the record unfinished."""
    failure: Literal["unfinished"] | None = None if completion.finish_reason == "stop" else "unfinished"
    return Decoded(address=address, tokens=list(completion.token_ids), failure=failure)


def require_vllm(*, gpu_here: bool) -> None:
    """Raise ConfigError where vLLM is not installed, or where a GPU is asked for and missing; nothing is imported."""
    if not _installed():
        raise ConfigError(f"sampling.engine.kind is vllm, which is not installed here; pip install vllm, {_REMEDY}")
    if gpu_here and not torch.cuda.is_available():
        raise ConfigError(f"sampling.engine.kind is vllm, and no GPU was found; use a machine with one, {_REMEDY}")


def require_soft_prompt(injector: str) -> None:
    """Raise ConfigError for an injector whose prompts are no embeddings, which is all that vLLM takes."""
    if injector not in ("soft_prompt", "vocabulary"):
        raise ConfigError(
            "sampling.engine.kind is vllm, which reads soft prompts only, and "
            f"autoencoder.injector.kind is {injector}; train with soft_prompt, {_REMEDY}"
        )


def _installed() -> bool:
    try:
        return importlib.util.find_spec("vllm") is not None
    except ValueError:  # a module without a spec
        return False


def _import_vllm() -> Any:
    require_vllm(gpu_here=True)
    try:
        vllm = importlib.import_module("vllm")
        importlib.import_module("vllm.sampling_params")
    except ImportError as error:
        raise ConfigError(
            f"sampling.engine.kind is vllm, which cannot be imported ({error}); install it anew, {_REMEDY}"
        ) from error
    return vllm
