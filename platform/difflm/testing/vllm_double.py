"""A double of the vLLM package: the same names, parameters and refusals, computed by the Hugging Face model on a CPU.

Written after the source of vLLM 0.33.0 (`entrypoints/llm.py`, `sampling_params.py`, `renderers/base.py`,
`v1/structured_output/backend_guidance.py`); parameters that this project does not use are left out, so that using one
is a TypeError here. A request draws from its own generator, stops at EOS, which is part of its token ids, and ends
with `length` when it has no tokens left.

Shape legend: K prompt positions, T tokens behind them, D embedding width, V vocabulary.
"""

from __future__ import annotations

import importlib.machinery
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor

from difflm.models.loading import load_tokenizer, load_weights
from difflm.synthesis.decoding.sampling import Truncation


@dataclass(kw_only=True)
class StructuredOutputsParams:
    """Exactly one grammar."""

    json: str | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        if (self.json is None) == (self.grammar is None):
            raise ValueError("You must use one kind of structured outputs constraint")

    def serialized(self) -> str:
        """Return the grammar that the guidance backend gives to llguidance."""
        if self.grammar is not None:
            return llguidance.grammar_from("grammar", self.grammar)
        assert self.json is not None
        return llguidance.LLMatcher.grammar_from_json_schema(self.json, defaults={"whitespace_flexible": True})


@dataclass(kw_only=True)
class SamplingParams:
    """How one request is sampled, within vLLM's bounds."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    detokenize: bool = True
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")
        if 0.0 < self.temperature < 0.01:
            self.temperature = 0.01
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.top_k < -1:
            raise ValueError(f"top_k must be 0 (disable), or at least 1, got {self.top_k}.")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise OverflowError("seeds are kept in 64 bits with a sign")


@dataclass(kw_only=True)
class CompletionOutput:
    """One completion of a request."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length"] | None


@dataclass(kw_only=True)
class RequestOutput:
    """What became of a request."""

    outputs: list[CompletionOutput]


class LLM:
    """One model, loaded from a folder, which need not hold a tokenizer where another folder is given for it."""

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        revision: str | None = None,
        trust_remote_code: Literal[False] = False,
        dtype: Literal["float32", "bfloat16"],
        max_model_len: int,
        gpu_memory_utilization: float,
        tensor_parallel_size: int,
        enforce_eager: bool,
        enable_prompt_embeds: bool = False,
        enable_prefix_caching: bool = True,
        structured_outputs_config: dict[str, str],
    ) -> None:
        if structured_outputs_config != {"backend": "guidance"}:
            raise ValueError("the double has the guidance backend only")
        from transformers import AutoModelForCausalLM

        self.dtype, self.enable_prompt_embeds, self.max_model_len = dtype, enable_prompt_embeds, max_model_len
        self.model: Any = load_weights(AutoModelForCausalLM, model, revision=revision, dtype=getattr(torch, dtype))
        loaded: Any = load_tokenizer(tokenizer or model)
        self.eos_id: int = loaded.eos_token_id
        self.tokenizer = llguidance.hf.from_tokenizer(loaded)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[dict[str, Tensor]], sampling_params: Sequence[SamplingParams], *, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        """Return completions in the order of the prompts."""
        if len(prompts) != len(sampling_params):
            raise ValueError("The lengths of prompts and params must be the same.")
        return [
            RequestOutput(outputs=[self._complete(self._embeds(prompt), params)])
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    def _embeds(self, prompt: dict[str, Tensor]) -> Tensor:
        embeds_KD = prompt["prompt_embeds"]
        if not self.enable_prompt_embeds:
            raise ValueError("You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        if embeds_KD.ndim != 2 or embeds_KD.shape[1] != self.model.config.hidden_size:
            raise ValueError("prompt_embeds must be of shape (seq_len, hidden_size).")
        if embeds_KD.dtype != getattr(torch, self.dtype) or embeds_KD.device.type != "cpu":
            raise ValueError(f"prompt_embeds are {embeds_KD.dtype} on {embeds_KD.device}")
        if len(embeds_KD) >= self.max_model_len:
            raise ValueError("the prompt is longer than the maximum model length")
        return embeds_KD

    def _complete(self, embeds_KD: Tensor, params: SamplingParams) -> CompletionOutput:
        assert params.structured_outputs is not None
        assert params.seed is not None
        assert params.max_tokens is not None
        matcher = llguidance.LLMatcher(self.tokenizer, params.structured_outputs.serialized())
        if matcher.is_error():
            raise ValueError(f"Grammar error: {matcher.get_error()}")
        generator = torch.Generator().manual_seed(params.seed)
        truncation = Truncation(temperature=params.temperature, top_p=params.top_p, top_k=params.top_k or None)
        tokens: list[int] = []
        embeddings: Any = self.model.get_input_embeddings()
        for _ in range(min(params.max_tokens, self.max_model_len - len(embeds_KD))):
            read_1TD = torch.cat([embeds_KD, embeddings(torch.tensor(tokens, dtype=torch.int64))])[None]
            scores_1V = self.model(inputs_embeds=read_1TD, use_cache=False).logits[:, -1].float()
            bits_V = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
            allowed_V = torch.from_numpy(bits_V[: scores_1V.shape[1]]).bool()
            masked_1V = truncation.scores_BA(scores_1V.masked_fill(~allowed_V, -torch.inf))
            token = int(torch.multinomial(torch.softmax(masked_1V, dim=1), 1, generator=generator))
            tokens.append(token)
            if token == self.eos_id:
                return CompletionOutput(index=0, text="", token_ids=tokens, finish_reason="stop")
            matcher.consume_token(token)
        return CompletionOutput(index=0, text="", token_ids=tokens, finish_reason="length")


def vllm_double() -> types.ModuleType:
    """Build the package, with `sampling_params` in it."""
    package: Any = types.ModuleType("vllm")
    package.__spec__ = importlib.machinery.ModuleSpec("vllm", loader=None)
    package.sampling_params = types.ModuleType("vllm.sampling_params")
    package.sampling_params.StructuredOutputsParams = StructuredOutputsParams
    package.sampling_params.SamplingParams = package.SamplingParams = SamplingParams
    package.LLM = LLM
    double: types.ModuleType = package
    return double
