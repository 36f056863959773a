"""Words of a latent: tokens of each field that z makes likelier than they are, as the frozen model's own embeddings.

Which these are is learned without the model, together with the encoder, by the tokens that fields have, in any order.
What several fields have in common only z can say.

Shape legend: B records, Z latent size, F fields, G grid cells, W cells of a field, U tokens that words are chosen of,
N words of a field, H hidden size, D width of token embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difflm.models.injection.vocabulary import NOTHING, places_among
from difflm.records.tokenization import GridLayout

HIDDEN = 128
"""Numbers between z and how likely tokens are."""
COUNTED_TOKENS = 64.0
"""What the tokens of a field count together at most, as many as there are: a long text is one field among others."""


class FieldWords(nn.Module):
    """How likely each token is in each field given z, in any order, and without z; the words that this makes.

    `tokens_U` are those that words are chosen of, the padding first, and `embeddings_UD` the decoder's own of them,
    which are in no artifact.
    """

    tokens_U: Tensor
    embeddings_UD: Tensor

    def __init__(
        self,
        tokens_U: Tensor,
        embeddings_UD: Tensor,
        *,
        count: int,
        latent_size: int,
        layout: GridLayout,
    ) -> None:
        super().__init__()
        self.count, self.layout, fields = min(count, len(tokens_U) - 1), layout, len(layout.widths)
        self.register_buffer("tokens_U", tokens_U)
        self.register_buffer("embeddings_UD", embeddings_UD.detach().float(), persistent=False)
        self.hidden = nn.Sequential(nn.Linear(latent_size, HIDDEN), nn.GELU())
        self.likely = nn.ModuleList(nn.Linear(HIDDEN, len(tokens_U)) for _ in range(fields))
        self.usual_FU = nn.Parameter(torch.zeros(fields, len(tokens_U)))
        self.marks_FD = nn.Parameter(torch.randn(fields, embeddings_UD.shape[1]) * embeddings_UD.float().std())

    @property
    def positions(self) -> int:
        """Of marks and words: each field's own mark, and its words."""
        return len(self.likely) * (1 + self.count)

    @torch.no_grad()
    def begin(self, grid_NG: Tensor, mark_D: Tensor) -> None:
        """Count how likely tokens are without z in training records, and let the marks begin as a token's embedding."""
        for usual_U, head, cells_NW in zip(self.usual_FU, self.likely, self.cells(grid_NG), strict=True):
            assert isinstance(head, nn.Linear)
            counts_U = torch.bincount(cells_NW[cells_NW > NOTHING], minlength=len(usual_U)).float() + 0.5
            usual_U.copy_((counts_U / counts_U.sum()).log())
            head.bias.copy_(usual_U)
        self.marks_FD.copy_(mark_D.float().expand_as(self.marks_FD))

    def cells(self, grid_BG: Tensor) -> Sequence[Tensor]:
        """Return each field's tokens as places among `tokens_U`, (B, W): 0 is empty, -100 a token that is not among
        them.
        """
        return torch.split(places_among(self.tokens_U, grid_BG), list(self.layout.widths), dim=1)

    def scores(self, latents_BZ: Tensor) -> list[Tensor]:
        """Return for each field the logarithms of how likely its tokens are, (B, U)."""
        hidden_BH = self.hidden(latents_BZ)
        return [head(hidden_BH).float().log_softmax(dim=-1) for head in self.likely]

    def nats(self, scores: list[Tensor], grid_BG: Tensor) -> Tensor:
        """Return what the tokens of records take by these scores, in any order and independent given z, shape (B,)."""
        nats_B = grid_BG.new_zeros(len(grid_BG), dtype=torch.float32)
        for likely_BU, cells_BW in zip(scores, self.cells(grid_BG), strict=True):
            counted_BW = cells_BW > NOTHING
            token_nats_BW = -likely_BU.gather(1, cells_BW.clamp(min=0)) * counted_BW
            share_B = COUNTED_TOKENS / counted_BW.sum(dim=1).clamp(min=1)
            nats_B = nats_B + token_nats_BW.sum(dim=1) * share_B.clamp(max=1.0)
        return nats_B

    @torch.no_grad()
    def chosen(self, scores: list[Tensor]) -> Tensor:
        """Choose each field's words, as places among `tokens_U` of shape (B, F, N), what says most first.

        A word says how likely it is, times how much likelier than without z: its part of the information about z.
        """
        found = []
        for usual_U, likely_BU in zip(self.usual_FU, scores, strict=True):
            said_BU = likely_BU.exp() * (likely_BU - usual_U)
            said_BU[:, NOTHING] = -torch.inf
            found.append(said_BU.topk(self.count, dim=-1).indices)
        return torch.stack(found, dim=1)

    def forward(self, latents_BZ: Tensor, told_B: Tensor | None = None) -> Tensor:
        """Return what the decoder reads as tokens, (B, F (1 + N), D); of records that are not in `told_B` marks alone,
        in every place.
        """
        words_BFN = self.chosen(self.scores(latents_BZ))
        marks_BF1D = self.marks_FD[None, :, None].expand(len(latents_BZ), -1, 1, -1)
        words_BFND = self.embeddings_UD[words_BFN].to(marks_BF1D.dtype)
        if told_B is not None:
            words_BFND = torch.where(told_B.reshape(-1, 1, 1, 1), words_BFND, marks_BF1D)
        return torch.cat([marks_BF1D, words_BFND], dim=2).flatten(1, 2)
