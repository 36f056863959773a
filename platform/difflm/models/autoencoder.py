"""The variational autoencoder around the frozen decoder: encoder, posterior, injector, decoder (DiffLM, Eq. 1-4); the
Gaussian posterior q(z|x) and its divergence from N(0, I).

Shape legend: B records, Z latent size, S slots, T text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import ModelError
from difflm.models.decoder import FrozenDecoder
from difflm.models.encoder import (
    CompactEncoderConfig,
    EncoderConfig,
)
from difflm.models.injection.injector import (
    InjectorConfig,
    PooledInjector,
    SlotInjector,
    SoftPromptConfig,
    has_empty_prompt,
)
from difflm.models.injection.prefix import PrefixInjector
from difflm.models.injection.vocabulary import VocabularyInjector
from difflm.models.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianPosterior:
    """A diagonal Gaussian for every record.

    `mean_BZ` is the deterministic encoding; `sample` is never deterministic.
    """

    mean_BZ: Tensor
    log_variance_BZ: Tensor

    def sample(self, noise_BZ: Tensor) -> Tensor:
        """z = mean + sigma * noise (Eq. 1); the caller draws the standard normal noise."""
        return self.mean_BZ + torch.exp(0.5 * self.log_variance_BZ) * noise_BZ

    def kl_nats(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) of shape (B,), in nats, *summed* over the Z dimensions.

        The published code averages over its 1,024 dimensions, so a beta there is 1,024 times weaker than the same
        number here.
        """
        terms = self.mean_BZ.square() + self.log_variance_BZ.exp() - 1.0 - self.log_variance_BZ
        return 0.5 * terms.sum(dim=-1)


LOG_VARIANCE_RANGE = (-12.0, 4.0)


class PosteriorHead(nn.Module):
    """Hidden vectors to mean and log variance: per slot, flattened to Z.

    `forward` returns a tensor, as that of the injectors does: ZeRO-3 finds none inside other values, and would not
    gather the module's weights for the backward pass.
    """

    def __init__(self, hidden_size: int, latent_per_slot: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 2 * latent_per_slot)
        with torch.no_grad():  # narrow posteriors at first, so that the decoder hears z over the noise
            self.linear.bias[latent_per_slot:] = -4.0

    def forward(self, hidden_BSH: Tensor) -> Tensor:
        """Mean and, behind it, log variance of every slot."""
        both: Tensor = self.linear(hidden_BSH)
        return both

    def posterior(self, hidden_BSH: Tensor) -> GaussianPosterior:
        """q(z|x)."""
        mean_BSd, log_variance_BSd = self(hidden_BSH).float().chunk(2, dim=-1)
        return GaussianPosterior(
            mean_BZ=mean_BSd.flatten(1), log_variance_BZ=log_variance_BSd.flatten(1).clamp(*LOG_VARIANCE_RANGE)
        )


Injector: TypeAlias = SlotInjector | PooledInjector | VocabularyInjector | PrefixInjector


class Autoencoder(nn.Module):
    """Everything the autoencoder stage trains, with the frozen decoder inside."""

    def __init__(self, *, encoder: nn.Module, head: PosteriorHead, injector: Injector, decoder: FrozenDecoder) -> None:
        super().__init__()
        self.encoder, self.head, self.injector, self.decoder = encoder, head, injector, decoder
        self.settled: frozenset[str] = frozenset()

    def encode(self, inputs: dict[str, Tensor]) -> GaussianPosterior:
        """q(z|x) of records given as the encoder's inputs (`grid_BG`, or `encoder_ids_BT` and `encoder_mask_BT`)."""
        return self.head.posterior(self.encoder(**inputs))

    def inject(self, latents_BZ: Tensor) -> Prompt:
        return self.injector.prompt(latents_BZ)

    def settle(self) -> None:
        """Learn no further what z means: encoder, posterior and the words that z is said in, but for their marks.

        No gradient comes through the choice of words, and one through the prefix alone would change what they mean.
        """
        learned = ("encoder.", "head.", "injector.words.")
        named = {name: value for name, value in self.named_parameters() if name.startswith(learned)}
        self.settled = frozenset(
            name for name, value in named.items() if value.requires_grad and name != "injector.words.marks_FD"
        )
        for name in self.settled:
            named[name].requires_grad_(False)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what training makes: all parameters that are trained now, or were before they settled."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad or name in self.settled}

    def empty_prompt(self, count: int) -> Prompt:
        """Return the prompts of so many records of which nothing is said: the decoder writes them by itself.

        Raises:
            ModelError: there is none.
        """
        injector = self.injector
        if not has_empty_prompt(injector):
            raise ModelError("the injector has no empty prompt; train it with autoencoder.injector.empty=true")
        latents_BZ = next(injector.parameters()).new_zeros((count, injector.latent_size))
        return injector.prompt(latents_BZ, torch.zeros(count, dtype=torch.bool, device=latents_BZ.device))

    def check_room(self, tokens: int, *, remedy: str) -> None:
        """Raise ModelError when a record of so many tokens does not fit behind the prompt into the decoder."""
        most, needed = self.decoder.max_positions, self.injector.positions + 1 + tokens
        if most is not None and needed > most:
            raise ModelError(
                f"the decoder reads {most} positions, but {self.injector.positions} of the prompt, BOS and a record of "
                f"{tokens} tokens take {needed}; {remedy}, leave out long columns or choose a decoder that reads more"
            )

    def forward(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor,
        beta: Tensor,
        capacity: Tensor | None = None,
        told_B: Tensor | None = None,
        counted_BT: Tensor | None = None,
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        """Return the negative ELBO with beta (Eq. 4), per token: its scale does not depend on the record's length.

        The parts are in nats per record. Of KL counts what its mean has above `capacity`. Records that are not in
        `told_B` (booleans) are written behind the empty prompt, and are no part of the nats that are reported.
        `counted_BT` says which tokens count.
        """
        posterior = self.encode(inputs)
        latents_BZ = posterior.sample(torch.randn_like(posterior.mean_BZ))
        injector = self.injector
        if told_B is None:
            prompt = self.inject(latents_BZ)
        else:
            assert has_empty_prompt(injector), "only some injectors have an empty prompt"
            prompt = injector.prompt(latents_BZ, told_B)
        nats_BT = self.decoder.nll(prompt, ids_BT, lengths_B)
        nats_B = (nats_BT if counted_BT is None else nats_BT * counted_BT).sum(dim=1)
        kl = posterior.kl_nats().mean()
        excess = kl if capacity is None else torch.relu(kl - capacity)
        told = torch.ones_like(nats_B) if told_B is None else told_B.to(nats_B.dtype)
        return {
            "loss": (nats_B.mean() + beta * excess) / lengths_B.float().mean(),
            "reconstruction_nats": (nats_B * told).sum() / told.sum(),
            "kl_nats": kl,
        }


Tokens = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]  # JSON has no tuples


class AutoencoderShape(Config):
    """Which encoder and injector: what a bundle keeps of the autoencoder's configuration."""

    encoder: EncoderConfig = CompactEncoderConfig()
    injector: InjectorConfig = SoftPromptConfig()
    encoder_sha256: str | None = Field(
        default=None,
        exclude_if=lambda digest: digest is None,
        description="of the weights that adapters were trained on, which are loaded from where the encoder came from",
    )
    tokens: Tokens | None = Field(
        default=None,
        exclude_if=lambda tokens: tokens is None,
        description="of the decoder's vocabulary, that an injector writes through: those of training's values",
    )
