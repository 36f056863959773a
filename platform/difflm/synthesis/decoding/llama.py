"""Our own forward pass of a small Llama: tokens of all slots in one row of matrix products, attention slot by slot.

Shape legend: B slots, N prompts, P tokens of all slots in one row, K positions of the prompt, L layers, X keys and
values, F tokens of the longest run, T positions seen, D width, H key heads (or as many heads as there are), G query
heads per key head, E head size (e pairs of numbers), A active tokens.

A compact decoder's layer computes for a few microseconds a token; the modules around it, padding, and logits that
nobody looks at cost more than that. The equations are those of `transformers.models.llama`, over the module's own
weights, with the matrices that read the same vector joined. Queries and keys have the two halves of a head interleaved,
which no product of theirs sees, so that a rotary position turns complex numbers. Equality with its forward pass is
tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from difflm.synthesis.decoding.kv_cache import PromptCache, SlotCache
from difflm.synthesis.grammar.constraint import Runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATIC_ROTARY = frozenset({"default", "linear", "llama3"})  # the same for every length of the text
MAX_PARAMETERS = 2**30  # joined matrices are copies; large models gain nothing from them and lose the memory


def is_small_llama(model: PreTrainedModel) -> bool:
    """Return whether `LlamaSlots` computes what the model does: a Llama with static rotary positions."""
    from transformers import LlamaForCausalLM

    if type(model) is not LlamaForCausalLM or model.config.hidden_act != "silu":
        return False
    rotary: Any = model.config.rope_parameters
    return rotary["rope_type"] in STATIC_ROTARY and model.num_parameters() <= MAX_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """Linear maps of one input as one."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, *linears: Any) -> _Joined:
        biases = [linear.bias for linear in linears if linear.bias is not None]
        return cls(weight=torch.cat([linear.weight for linear in linears]), bias=torch.cat(biases) if biases else None)

    def scaled(self, rows: int, factor: float) -> _Joined:
        """Return the map with its first `rows` outputs times a factor."""
        factors = torch.ones(len(self.weight), dtype=torch.float32, device=self.weight.device)
        factors[:rows] = factor
        weight = (self.weight * factors[:, None]).to(self.weight.dtype)
        return _Joined(weight=weight, bias=None if self.bias is None else (self.bias * factors).to(self.bias.dtype))

    def after_norm(self, norm: Any) -> _Joined:
        """Return the map with the weights of the norm in front of it (unit vector times weights) folded in."""
        return _Joined(weight=self.weight * norm.weight, bias=self.bias)

    def interleaved(self, heads: int, head_size: int) -> _Joined:
        """Return the map with the halves of its first `heads` heads interleaved."""
        order = torch.arange(len(self.weight), device=self.weight.device)
        turned = order[: heads * head_size].view(heads, 2, head_size // 2).transpose(1, 2).flatten()
        order = torch.cat([turned, order[len(turned) :]])
        return _Joined(weight=self.weight[order], bias=None if self.bias is None else self.bias[order])

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight, self.bias)

    def added_to(self, hidden_PD: Tensor, inputs: Tensor) -> Tensor:
        """Apply the map and add the residual stream `hidden_PD`."""
        if self.bias is not None:
            hidden_PD = hidden_PD + self.bias
        return torch.addmm(hidden_PD, inputs, self.weight.t())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    query_key_value: _Joined
    out: _Joined
    gate_up: _Joined
    down: _Joined


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """The tokens of all runs in one row: slot and position of each, and the way of their heads into the table that
    attention reads and back. The table has (B, H, G, F) rows; rows that stand for no token repeat the first.
    """

    slot_P: Tensor
    position_P: Tensor
    place_P: Tensor
    into_table: Tensor
    out_of_table: Tensor
    mask_BFT: Tensor

    @classmethod
    def of(cls, lengths_B: Tensor, filled_B: Tensor, longest: int, seen: int, model: LlamaSlots) -> _Tokens:
        slots, heads = len(lengths_B), model.query_heads
        offset_F = torch.arange(longest, device=filled_B.device)
        place_P = (offset_F < lengths_B[:, None]).flatten().nonzero().squeeze(1)
        slot_P, offset_P = place_P // longest, place_P % longest
        head_H = torch.arange(heads, device=filled_B.device)
        out_of_table = ((slot_P[:, None] * heads + head_H) * longest + offset_P[:, None]).flatten()
        row_PH = torch.arange(len(place_P), device=filled_B.device)[:, None] * (heads + model.key_heads) + head_H
        into_table = torch.zeros(slots * heads * longest, dtype=torch.int64, device=filled_B.device)
        into_table[out_of_table] = row_PH.flatten()
        return cls(
            slot_P=slot_P,
            position_P=filled_B[slot_P] + offset_P,
            place_P=place_P,
            into_table=into_table,
            out_of_table=out_of_table,
            mask_BFT=model.mask(filled_B[:, None] + offset_F, seen),
        )


class LlamaSlots:
    """A `SlotModel` over the weights of a `LlamaForCausalLM`."""

    def __init__(self, model: PreTrainedModel, tokens_A: Tensor) -> None:
        whole: Any = model
        config, body = whole.config, whole.model
        self.query_heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = int(body.layers[0].self_attn.head_dim)
        self.epsilon = config.rms_norm_eps
        table_VD = body.embed_tokens.weight
        self.embeddings_VD = torch.cat([table_VD, table_VD.new_zeros((1, table_VD.shape[1]))])  # NO_TOKEN's is zero
        self.head_AD = whole.lm_head.weight[tokens_A] * body.norm.weight
        self.layers = [
            _Layer(
                query_key_value=_Joined.of(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
                .interleaved(self.query_heads + self.key_heads, self.head_size)
                .scaled(self.query_heads * self.head_size, self.head_size**-0.5)
                .after_norm(layer.input_layernorm),
                out=_Joined.of(layer.self_attn.o_proj),
                gate_up=_Joined.of(layer.mlp.gate_proj, layer.mlp.up_proj).after_norm(layer.post_attention_layernorm),
                down=_Joined.of(layer.mlp.down_proj),
            )
            for layer in body.layers
        ]
        self._rotary = body.rotary_emb
        self._turns_T1e, self._mask_TT = self._turn_table(64), self._mask_table(64)

    def prefill(self, embeds_NKD: Tensor, behind: PromptCache | None = None) -> PromptCache:
        rows, soft, width = embeds_NKD.shape
        known = 0 if behind is None else behind.keys[0].shape[2]
        lengths_N = torch.full((rows,), soft, device=embeds_NKD.device)
        tokens = _Tokens.of(lengths_N, torch.full_like(lengths_N, known), soft, known + soft, self)
        hidden_PD = embeds_NKD.reshape(rows * soft, width)
        turns_P1e = self._turns(tokens.position_P, known + soft)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            turned_PHE, value_PHE = self._heads(layer, hidden_PD, turns_P1e)
            key_PHE = turned_PHE[:, self.query_heads :]
            read = [part.view(rows, soft, *part.shape[1:]).transpose(1, 2) for part in (key_PHE, value_PHE)]
            if behind is not None:
                before = (behind.keys[number], behind.values[number])
                read = [torch.cat([old, new], dim=2) for old, new in zip(before, read, strict=True)]
            keys.append(read[0].contiguous())
            values.append(read[1].contiguous())
            if layer is not self.layers[-1]:  # nobody reads what the last layer would say
                read_PD = self._attend(turned_PHE, keys[-1], values[-1], tokens)
                hidden_PD = self._after_attention(layer, hidden_PD, read_PD)
        return PromptCache(keys=keys, values=values)

    def recall(self, memory_NLXHKE: Tensor) -> PromptCache:
        keys_NLHKE, values_NLHKE = memory_NLXHKE.unbind(2)
        halves = keys_NLHKE.reshape(*keys_NLHKE.shape[:-1], 2, self.head_size // 2)
        keys = halves.transpose(-1, -2).flatten(-2)  # their halves interleaved, as those of queries are
        return PromptCache(keys=keys.unbind(1), values=values_NLHKE.unbind(1))

    def step(self, cache: SlotCache, runs: Runs, filled_B: Tensor) -> Tensor:
        tokens = _Tokens.of(runs.lengths_N, filled_B, runs.tokens_NF.shape[1], cache.positions, self)
        hidden_PD = self.embeddings_VD[runs.tokens_NF.flatten()[tokens.place_P]]
        if runs.also_NF is not None:
            hidden_PD = hidden_PD + self.embeddings_VD[runs.also_NF.flatten()[tokens.place_P]]
        if cache.added_BD is not None:
            hidden_PD = hidden_PD + cache.added_BD[tokens.slot_P]
        turns_P1e = self._turns(tokens.position_P, cache.positions)
        rows = cache.rows(tokens.slot_P, tokens.position_P)
        for number, layer in enumerate(self.layers):
            turned_PHE, value_PHE = self._heads(layer, hidden_PD, turns_P1e)
            cache.write(number, rows, turned_PHE[:, self.query_heads :], value_PHE)
            if layer is self.layers[-1]:
                break
            read_PD = self._attend(turned_PHE, cache.keys[number], cache.values[number], tokens)
            hidden_PD = self._after_attention(layer, hidden_PD, read_PD)
        # Of the last layer only the last token of every slot is asked for.
        last_B = (runs.lengths_N.cumsum(0) - 1).clamp(min=0)
        mask_B1T = self.mask((filled_B + runs.lengths_N - 1).clamp(min=0)[:, None], cache.positions)
        query = turned_PHE[last_B, : self.query_heads].view(len(mask_B1T) * self.key_heads, -1, self.head_size)
        read = self._read(query, cache.keys[-1], cache.values[-1], mask_B1T)
        hidden_BD = self._after_attention(self.layers[-1], hidden_PD[last_B], read.view(len(last_B), -1))
        return functional.linear(self._unit(hidden_BD), self.head_AD)

    def mask(self, position_BF: Tensor, seen: int) -> Tensor:
        """Mask later positions with -inf, (B, F, T). Every query sees position 0, so every row has a number."""
        if seen > len(self._mask_TT):
            self._mask_TT = self._mask_table(2 * seen)
        rows = self._mask_TT[:, :seen].index_select(0, position_BF.clamp(max=seen - 1).flatten())
        return rows.view(*position_BF.shape, seen)

    def _heads(self, layer: _Layer, hidden_PD: Tensor, turns_P1e: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries followed by keys (P, H * G + H, E), rotated to their positions, and values (P, H, E)."""
        all_PHE = layer.query_key_value(self._unit(hidden_PD)).view(len(hidden_PD), -1, self.head_size)
        turning = self.query_heads + self.key_heads
        return _turned(all_PHE[:, :turning], turns_P1e), all_PHE[:, turning:]

    def _attend(self, turned_PHE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, tokens: _Tokens) -> Tensor:
        """Return the attention output of every token, (P, H * G * E)."""
        table = turned_PHE.flatten(0, 1).index_select(0, tokens.into_table)
        query = table.view(len(tokens.mask_BFT) * self.key_heads, -1, self.head_size)
        read = self._read(query, keys_BHTE, values_BHTE, tokens.mask_BFT)
        return read.flatten(0, 1).index_select(0, tokens.out_of_table).view(len(turned_PHE), -1)

    def _read(self, query: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, mask_BFT: Tensor) -> Tensor:
        """Compute the attention of (B * H, G * F) queries under a mask."""
        keys, values = keys_BHTE.flatten(0, 1), values_BHTE.flatten(0, 1)
        scores = torch.bmm(query, keys.transpose(1, 2))
        slots, longest, seen = mask_BFT.shape
        scores.view(slots, -1, longest, seen).add_(mask_BFT[:, None])
        return torch.bmm(torch.softmax(scores, dim=-1), values)

    def _after_attention(self, layer: _Layer, hidden_PD: Tensor, read_PD: Tensor) -> Tensor:
        hidden_PD = layer.out.added_to(hidden_PD, read_PD)
        gate_PI, up_PI = layer.gate_up(self._unit(hidden_PD)).chunk(2, dim=-1)
        return layer.down.added_to(hidden_PD, functional.silu(gate_PI).mul_(up_PI))

    def _unit(self, hidden_PD: Tensor) -> Tensor:
        """Scale to root mean square 1, without weights (`_Joined.after_norm`): half the time of `rms_norm` on a CPU."""
        size = hidden_PD.shape[1]
        length_P1: Tensor = torch.linalg.vector_norm(hidden_PD, dim=1, keepdim=True, dtype=torch.float32)
        scale_P1 = length_P1.square_().add_(size * self.epsilon).rsqrt_().mul_(size**0.5)
        return hidden_PD * scale_P1.to(hidden_PD.dtype)

    def _turns(self, position_P: Tensor, seen: int) -> Tensor:
        """Return the complex rotary factors of every token's heads, (P, 1, E / 2)."""
        if seen > len(self._turns_T1e):
            self._turns_T1e = self._turn_table(2 * seen)
        return self._turns_T1e[position_P]

    def _turn_table(self, positions: int) -> Tensor:
        position_1T = torch.arange(positions, device=self.head_AD.device)[None]
        cosine_1TE, sine_1TE = self._rotary(self.head_AD.float(), position_1T)
        half = self.head_size // 2
        return torch.complex(cosine_1TE[0, :, None, :half], sine_1TE[0, :, None, :half])

    def _mask_table(self, positions: int) -> Tensor:
        later_TT = torch.ones((positions, positions), dtype=torch.bool, device=self.head_AD.device).triu(1)
        return torch.zeros(later_TT.shape, dtype=self.head_AD.dtype, device=later_TT.device).masked_fill_(
            later_TT, -torch.inf
        )


def _turned(heads_PHE: Tensor, turns_P1e: Tensor) -> Tensor:
    """Apply rotary positions (Su et al. 2021) to interleaved heads, in float32."""
    heads_PHe = torch.view_as_complex(heads_PHE.float().reshape(*heads_PHE.shape[:-1], -1, 2))
    return torch.view_as_real(heads_PHe * turns_P1e).flatten(-2).to(heads_PHE.dtype)
