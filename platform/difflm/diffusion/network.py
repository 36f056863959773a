"""The denoiser's network F: an MLP as in the paper, or a transformer, over one of two embeddings of the noise level.

Shape legend: B batch, Z latent size, W width, C condition features, T tokens of a latent, H heads.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config

NOISE_EMBEDDING = 128
NETWORK_VARIANTS = ("denoiser", "noise_embedding")
"""Keys that files and fingerprints name only where they are not at their default."""
FOURIER_SCALE = 16.0
_FOURIER_SEED = 0


class MlpDenoiserConfig(Config):
    """Residual layers over the whole latent (DiffLM, appendix)."""

    kind: Literal["mlp"] = "mlp"


class TransformerDenoiserConfig(Config):
    """Attention among parts of the latent, which are its tokens."""

    kind: Literal["transformer"] = "transformer"
    part_size: int = Field(
        default=4, ge=1, description="numbers of z per token; with a compact encoder its latent_per_slot: one per slot"
    )
    heads: int = Field(default=8, ge=1)


DenoiserConfig = Annotated[MlpDenoiserConfig | TransformerDenoiserConfig, Field(discriminator="kind")]
NoiseEmbedding = Literal["positional", "fourier"]


class NetworkConfig(Config):
    """The network of a denoiser. A prior that does not say otherwise has the defaults."""

    width: int = Field(ge=8)
    blocks: int = Field(ge=1)
    denoiser: DenoiserConfig = MlpDenoiserConfig()
    noise_embedding: NoiseEmbedding = "positional"


def check_heads(width: int, denoiser: DenoiserConfig) -> None:
    """Raise ValueError where the heads of a transformer do not divide its width."""
    if isinstance(denoiser, TransformerDenoiserConfig) and width % denoiser.heads:
        raise ValueError(f"width {width} must be a multiple of denoiser.heads ({denoiser.heads})")


def build_network(config: NetworkConfig, *, latent_size: int, conditions: int = 0) -> nn.Module:
    """F(x; c_noise) of shape (B, Z), or F(x; c_noise, condition) when built with `conditions` > 0.

    The condition is added to what every block reads as noise level. Its last matrix is zero at first, so a network
    that takes over the weights of one without conditions begins as the same function. Weights are drawn from torch's
    global generator.
    """
    match config.denoiser:
        case MlpDenoiserConfig():
            return MlpNetwork(
                latent_size=latent_size,
                width=config.width,
                blocks=config.blocks,
                conditions=conditions,
                noise_embedding=config.noise_embedding,
            )
        case TransformerDenoiserConfig(part_size=part_size, heads=heads):
            return TransformerNetwork(
                latent_size=latent_size,
                width=config.width,
                blocks=config.blocks,
                conditions=conditions,
                noise_embedding=config.noise_embedding,
                part_size=part_size,
                heads=heads,
            )


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of c_noise at geometric frequencies (Vaswani et al. 2017), scaled for |c_noise| of order 1."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0.0, math.log(100.0), size // 2)), persistent=False
        )

    def forward(self, c_noise_B: Tensor) -> Tensor:
        angles = c_noise_B[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class FourierEmbedding(nn.Module):
    """Sines and cosines of c_noise at random frequencies (Tancik et al. 2020; Song et al. 2021).

    The frequencies are normal with a deviation of 16 turns, and the same in every network of a size.
    """

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_FOURIER_SEED)
        turns = FOURIER_SCALE * torch.randn(size // 2, generator=generator, device="cpu")
        self.register_buffer("frequencies", 2 * math.pi * turns, persistent=False)

    def forward(self, c_noise_B: Tensor) -> Tensor:
        angles = c_noise_B[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResidualBlock(nn.Module):
    """x + W2 silu(W1 norm(x) + noise), with the last matrix at zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.noise, self.outer = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        _zero(self.outer)

    def forward(self, hidden_BW: Tensor, noise_BW: Tensor) -> Tensor:
        out: Tensor = hidden_BW + self.outer(
            nn.functional.silu(self.inner(self.norm(hidden_BW)) + self.noise(noise_BW))
        )
        return out


class MlpNetwork(nn.Module):
    """Residual layers over the whole latent (see `build_network`)."""

    def __init__(
        self,
        *,
        latent_size: int,
        width: int,
        blocks: int,
        conditions: int = 0,
        noise_embedding: NoiseEmbedding = "positional",
        noise_size: int = NOISE_EMBEDDING,
    ) -> None:
        super().__init__()
        self.embed = _noise_embedding(noise_embedding, noise_size, width)
        self.enter = nn.Linear(latent_size, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_size))
        self.condition = _condition_embedding(conditions, width) if conditions else None

    def forward(self, scaled_BZ: Tensor, c_noise_B: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        noise_BW = _level(self.embed, c_noise_B, self.condition, condition_BC)
        hidden_BW = self.enter(scaled_BZ)
        for block in self.blocks:
            hidden_BW = block(hidden_BW, noise_BW)
        out: Tensor = self.leave(hidden_BW)
        return out


class AttentionBlock(nn.Module):
    """Attention among all tokens, then a `ResidualBlock` of each; both add to what they read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.residual = ResidualBlock(width)
        _zero(self.outer)

    def forward(self, hidden_BTW: Tensor, noise_B1W: Tensor) -> Tensor:
        joined_BTW = self.query_key_value(self.norm(hidden_BTW))
        parts = joined_BTW.reshape(*joined_BTW.shape[:2], 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        read_BHTw = nn.functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.residual(hidden_BTW + self.outer(read_BHTw.transpose(1, 2).flatten(2)), noise_B1W)
        return out


class TransformerNetwork(nn.Module):
    """A transformer whose tokens are parts of the latent (see `build_network`); the last part is filled with zeros."""

    def __init__(
        self,
        *,
        latent_size: int,
        width: int,
        blocks: int,
        part_size: int,
        heads: int,
        conditions: int = 0,
        noise_embedding: NoiseEmbedding = "positional",
    ) -> None:
        super().__init__()
        self.part_size, parts = part_size, -(-latent_size // part_size)
        self.embed = _noise_embedding(noise_embedding, NOISE_EMBEDDING, width)
        self.enter = nn.Linear(part_size, width)
        self.places = nn.Parameter(torch.randn(parts, width) * 0.5)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, part_size))
        self.condition = _condition_embedding(conditions, width) if conditions else None

    def forward(self, scaled_BZ: Tensor, c_noise_B: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        noise_BW = _level(self.embed, c_noise_B, self.condition, condition_BC)
        size = scaled_BZ.shape[1]
        filled_BZ = nn.functional.pad(scaled_BZ, (0, len(self.places) * self.part_size - size))
        hidden_BTW = self.enter(filled_BZ.reshape(len(filled_BZ), -1, self.part_size)) + self.places
        for block in self.blocks:
            hidden_BTW = block(hidden_BTW, noise_BW[:, None])
        out: Tensor = self.leave(hidden_BTW).flatten(1)[:, :size]
        return out


def _noise_embedding(kind: NoiseEmbedding, size: int, width: int) -> nn.Sequential:
    embedding = SinusoidalEmbedding(size) if kind == "positional" else FourierEmbedding(size)
    return nn.Sequential(embedding, nn.Linear(size, width), nn.SiLU())


def _level(embed: nn.Module, c_noise_B: Tensor, condition: nn.Module | None, condition_BC: Tensor | None) -> Tensor:
    """Return what every block reads as noise level, shape (B, W): the condition is added to it."""
    noise_BW: Tensor = embed(c_noise_B)
    return noise_BW if condition is None or condition_BC is None else noise_BW + condition(condition_BC)


def _condition_embedding(conditions: int, width: int) -> nn.Sequential:
    last = nn.Linear(width, width, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(nn.Linear(conditions, width), nn.SiLU(), nn.LayerNorm(width), last)


def _zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
