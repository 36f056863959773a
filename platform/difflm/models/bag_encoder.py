"""An encoder that reads a pretrained decoder's own token embeddings: they know already which words are alike.

Shape legend: B records, G grid cells, F fields, W cells of a field, U tokens that training uses, D width of token
embeddings, H hidden size.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.injection.vocabulary import NOTHING, places_among
from difflm.records.tokenization import GridLayout


class BagEncoderConfig(Config):
    """Averages of the decoder's own token embeddings over each field, and one layer: one latent.

    For pretrained decoders, whose embeddings know already which words are alike. The order of a field's tokens is lost.
    """

    kind: Literal["bag"] = "bag"
    hidden_size: int = Field(default=384, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the averages, in training")
    latent_size: int = Field(default=64, ge=1)


class BagEncoder(nn.Module):
    """Sums of a field's token embeddings over the root of their number, each number standardised, and one layer.

    `tokens_U` are those that training uses, the padding first, and `embeddings_UD` the decoder's own of them, which are
    in no artifact; other tokens are passed over.
    """

    tokens_U: Tensor
    embeddings_UD: Tensor

    def __init__(self, config: BagEncoderConfig, layout: GridLayout, tokens_U: Tensor, embeddings_UD: Tensor) -> None:
        super().__init__()
        self.layout, fields, width = layout, len(layout.widths), embeddings_UD.shape[1]
        self.register_buffer("tokens_U", tokens_U)
        self.register_buffer("embeddings_UD", embeddings_UD.detach().float(), persistent=False)
        self.mean_FD = nn.Parameter(torch.zeros(fields, width))
        self.scale_FD = nn.Parameter(torch.ones(fields, width))
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Sequential(nn.Linear(fields * width, config.hidden_size), nn.GELU())

    @torch.no_grad()
    def begin(self, grid_NG: Tensor) -> None:
        """Standardise the numbers of training records."""
        bags_NFD = self.bags(grid_NG)
        self.mean_FD.copy_(bags_NFD.mean(dim=0))
        self.scale_FD.copy_(1.0 / (bags_NFD.std(dim=0, correction=0) + 1e-3))

    def bags(self, grid_BG: Tensor) -> Tensor:
        """Return the sums of embeddings, (B, F, D)."""
        fields = []
        for cells_BW in torch.split(places_among(self.tokens_U, grid_BG), list(self.layout.widths), dim=1):
            read_BW1 = (cells_BW > NOTHING)[..., None].to(self.embeddings_UD.dtype)
            summed_BD = (self.embeddings_UD[cells_BW.clamp(min=0)] * read_BW1).sum(dim=1)
            fields.append(summed_BD / read_BW1.sum(dim=1).clamp(min=1).sqrt())
        return torch.stack(fields, dim=1)

    def forward(self, grid_BG: Tensor) -> Tensor:
        """Return one hidden vector per record, shape (B, 1, H)."""
        standard_BFD = (self.bags(grid_BG) - self.mean_FD) * self.scale_FD
        out: Tensor = self.hidden(self.dropout(standard_BFD).flatten(1))
        return out[:, None]
