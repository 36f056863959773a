"""The compact decoder that writes records by itself, fitted together with a latent of few nats that steers it.

Shape legend: B records, T tokens, G grid cells, F fields, Z latent size, C classes of a field, V vocabulary.

A decoder of this size writes a table's joint distribution better than it copies one out of a latent, so the latent is
left only what is coarse and shared: at most so many nats a record. What that is cannot be learned from the decoder,
which needs no latent and soon ignores it. So the draft of encoder and injector that the fit begins learns by a decoder
that has nothing else: fields that are independent of each other given z, in classes. What they have in common only z
can say. The language model learns to read z beside it, from the tokens of the same records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from difflm.models.autoencoder import PosteriorHead
from difflm.models.encoder import CompactEncoder
from difflm.models.field_slots import BINS, DigitTokens, Knots, spelled_values
from difflm.models.injection.injector import PooledInjector
from difflm.models.prompt import Prompt, causal_nll
from difflm.records.number_tokens import comparable
from difflm.records.tokenization import GridLayout

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CLASSES = BINS
KL_PRICE = 4.0
"""Of a nat of KL above its capacity: what fields have in common saves independent ones more than a nat for each."""
TEXT_NATS = 8.0
"""What the tokens of a text count together, as many as there are: it is one field among others."""
ALIKE, NEAR = 0.97, 20.0
"""How much of the embeddings of near number tokens is the same at first, and how many numbers apart it fades."""


@torch.no_grad()
def liken_numbers(weight_VD: Tensor, vocabulary: Mapping[str, int]) -> None:
    """Let the embeddings of number tokens begin alike where the numbers are near.

    Drawn independently, 28 has no more to do with 29 than with 71, and every pair of digits has to be learned by
    itself: few rows are learned by heart before that. So the embeddings of the tokens of a place are drawn from a
    Gaussian process over what they count, of the scale that `weight_VD` has, with torch's global generator.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for token, at in sorted(vocabulary.items(), key=lambda entry: entry[1]):
        if (found := comparable(token)) is not None:
            places.setdefault(found[0], []).append((found[1], at))
    for members in places.values():
        counts_N = torch.tensor([count for count, _ in members], dtype=torch.float64)
        apart_NN = (counts_N[:, None] - counts_N) / NEAR
        covariance_NN = ALIKE * torch.exp(-0.5 * apart_NN.square()) + (1.0 - ALIKE) * torch.eye(len(members))
        root_NN = torch.linalg.cholesky(covariance_NN)
        drawn_ND = root_NN @ torch.randn(len(members), weight_VD.shape[1], dtype=torch.float64)
        ids_N = torch.tensor([at for _, at in members])
        weight_VD[ids_N] = (drawn_ND * weight_VD[ids_N].std()).to(weight_VD.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldClasses:
    """The class of every field of a record: the quantile bin of a number or date, the most frequent values one by one.

    Fields of `texts` have none: their tokens count instead.
    """

    layout: GridLayout
    knots: Knots
    digits: DigitTokens
    classes: tuple[Tensor, ...]
    texts: tuple[int, ...]

    @classmethod
    def of(
        cls, grid_NG: Tensor, layout: GridLayout, knots: Knots, digits: DigitTokens, texts: Sequence[int]
    ) -> FieldClasses:
        """Find the most frequent first tokens of every field of training records (N, G)."""
        vocabulary = len(digits.value_V)
        classes = []
        for start in layout.starts:
            counts_V = torch.bincount(grid_NG[:, start].cpu(), minlength=vocabulary)
            frequent = counts_V.argsort(descending=True, stable=True)[: CLASSES - 1]
            class_V = torch.full((vocabulary,), CLASSES - 1)
            class_V[frequent] = torch.arange(len(frequent))
            classes.append(class_V)
        return cls(layout=layout, knots=knots, digits=digits, classes=tuple(classes), texts=tuple(texts))

    def __call__(self, grid_NG: Tensor) -> Tensor:
        """Return the classes of records, shape (N, F)."""
        device = grid_NG.device
        values_NF = spelled_values(grid_NG, self.layout, self.digits.to(device))
        columns = []
        for field, (start, edges) in enumerate(zip(self.layout.starts, self.knots, strict=True)):
            if len(edges) > 1:
                inner = torch.tensor(edges[1:-1], dtype=torch.float64, device=device)
                columns.append(torch.bucketize(values_NF[:, field].contiguous(), inner, right=True))
            else:
                columns.append(self.classes[field].to(device)[grid_NG[:, start]])
        return torch.stack(columns, dim=1)


class IndependentFields(nn.Module):
    """p(class of a field | z) for every field, and p(token | z) of the tokens of texts, all independent given z."""

    def __init__(self, latent_size: int, *, fields: int, texts: Sequence[int], layout: GridLayout, vocabulary: int):
        super().__init__()
        self.fields, self.texts = fields, [(field, layout.starts[field], layout.widths[field]) for field in texts]
        self.hidden = nn.Sequential(nn.Linear(latent_size, 128), nn.GELU())
        self.outer = nn.Linear(128, fields * CLASSES)
        self.tokens = nn.ModuleList(nn.Linear(128, vocabulary) for _ in self.texts)

    def forward(self, latents_BZ: Tensor, class_BF: Tensor, grid_BG: Tensor, pad_id: int) -> Tensor:
        """Return the nats of every record, shape (B,)."""
        hidden_BH = self.hidden(latents_BZ)
        scores_BFC = self.outer(hidden_BH).float().unflatten(-1, (self.fields, CLASSES))
        nats_BF = nn.functional.cross_entropy(scores_BFC.transpose(1, 2), class_BF, reduction="none")
        counted_F = torch.ones(self.fields, device=nats_BF.device)
        counted_F[[field for field, _, _ in self.texts]] = 0.0
        nats_B = (nats_BF * counted_F).sum(dim=1)
        for (_, start, width), head in zip(self.texts, self.tokens, strict=True):
            cells_BW = grid_BG[:, start : start + width]
            written_BW = cells_BW != pad_id
            token_nats_BW = -head(hidden_BH).float().log_softmax(dim=-1).gather(1, cells_BW) * written_BW
            share_B = TEXT_NATS / written_BW.sum(dim=1).clamp(min=1)
            nats_B = nats_B + (token_nats_BW.sum(dim=1) * share_B.clamp(max=1.0))
        return nats_B


class SteeredDecoderFit(nn.Module):
    """The trainable decoder, the draft of encoder and injector, and the independent fields that the draft learns by.

    The names of the draft's parts are those of an autoencoder, which goes on with them.
    """

    joined_V: Tensor | None

    def __init__(
        self,
        *,
        model: LlamaForCausalLM,
        encoder: CompactEncoder,
        head: PosteriorHead,
        injector: PooledInjector,
        independent: IndependentFields,
        capacity_nats: float,
        bos_id: int,
        pad_id: int,
        joined_V: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("joined_V", joined_V, persistent=False)
        self.model, self.encoder, self.head, self.injector = model, encoder, head, injector
        self.independent, self.capacity_nats, self.bos_id, self.pad_id = independent, capacity_nats, bos_id, pad_id

    def forward(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor,
        counted_BT: Tensor,
        grid_BG: Tensor,
        class_BF: Tensor,
        told_B: Tensor,
    ) -> dict[str, Tensor]:
        """Return the loss per token and its parts in nats per record.

        Records in `told_B` (booleans) are written behind the prompt of their latent, the others behind the empty one;
        `counted_BT` says which tokens count. `nats` is of all records, `nats_told` and `nats_empty` of either kind.
        """
        posterior = self.head.posterior(self.encoder(grid_BG))
        latents_BZ = posterior.sample(torch.randn_like(posterior.mean_BZ))
        kl = posterior.kl_nats().mean()
        independent = self.independent(latents_BZ, class_BF, grid_BG, self.pad_id).mean()
        prompt = Prompt(embeds_BKD=self.injector(latents_BZ.detach(), told_B))
        nats_BT = causal_nll(self.model, prompt, ids_BT, lengths_B, bos_id=self.bos_id, joined_V=self.joined_V)
        nats_BT = nats_BT * counted_BT
        nats_B, told = nats_BT.sum(dim=1), told_B.to(nats_BT.dtype)
        draft = KL_PRICE * torch.relu(kl - self.capacity_nats) + independent
        return {
            "loss": (nats_B.mean() + draft) / lengths_B.float().mean(),
            "nats": nats_B.mean(),
            "nats_told": (nats_B * told).sum() / told.sum().clamp(min=1),
            "nats_empty": (nats_B * (1 - told)).sum() / (1 - told).sum().clamp(min=1),
            "kl_nats": kl,
            "independent_nats": independent,
        }
