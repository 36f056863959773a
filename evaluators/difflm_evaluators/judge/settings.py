"""Settings of a judge: which model is asked, how often, how fast, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, model_validator

from difflm.config import Config
from difflm.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]

OFFICIAL_URL = "https://api.openai.com/v1"
URL_VARIABLE = "OPENAI_BASE_URL"
THIS_PROCESS = "this process"
"""Where a model of this machine answers, in an address's place."""


class SamplingSettings(Config):
    """What is sent along with every question."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """None leaves it to the server. At 0 repeats are nearly the same answer again, and agree without meaning much."""
    max_output_tokens: int = Field(default=1024, ge=1)
    """Longest reply; models that reason before they answer need several thousand."""


class LimitSettings(Config):
    """How fast the endpoint is asked, and how patiently."""

    concurrency: int = Field(default=8, ge=1)
    """Questions under way at the same time."""
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    """Input, estimated as a quarter of its bytes, plus the longest reply."""
    timeout_s: Positive = 120.0
    attempts: int = Field(default=6, ge=1)
    """Requests for one reply, when the server is busy, fails, is silent or breaks off."""
    readings: int = Field(default=3, ge=1)
    """Replies asked for one question, when they cannot be read."""
    longest_wait_s: Positive = 120.0
    """Longest pause before another attempt; a server that asks for a longer one leaves the question unanswered."""
    failures_in_a_row: int = Field(default=10, ge=1)
    """So many questions without any reply, one after the other, and the run stops."""


class PriceSettings(Config):
    """Dollars per million tokens; without them there is no account in dollars."""

    input: Annotated[float, Field(ge=0)] | None = None
    output: Annotated[float, Field(ge=0)] | None = None

    @property
    def known(self) -> bool:
        """Whether both are given."""
        return self.input is not None and self.output is not None

    def dollars(self, input_tokens: int, output_tokens: int) -> float | None:
        """Compute what so many tokens cost; None without prices."""
        if self.input is None or self.output is None:
            return None
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class BudgetSettings(Config):
    """What the answers in one output folder may cost, all runs together; no request is sent that could exceed it."""

    dollars: Positive | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None


class JudgeSettings(Config):
    """Everything about a judge but the questions."""

    model: str = Field(min_length=1)
    base_url: str | None = None
    """None takes the variable OPENAI_BASE_URL, then OpenAI's own address if there is a key."""
    api_key_env: str = Field(default="OPENAI_API_KEY", min_length=1)
    """The environment variable that holds the key; a key itself never stands in settings."""
    repeats: int = Field(default=1, ge=1)
    """How often every question is asked; two or more show how far the judge agrees with itself."""
    sampling: SamplingSettings = SamplingSettings()
    limits: LimitSettings = LimitSettings()
    prices: PriceSettings = PriceSettings()
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")
    def _a_cap_in_dollars_needs_prices(self) -> JudgeSettings:
        if self.budget.dollars is not None and not self.prices.known:
            raise ValueError(
                "a budget in dollars needs prices; give prices.input and prices.output in dollars per million tokens"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where questions go; the key is never printed."""

    base_url: str
    api_key: str = field(repr=False)


def find_endpoint(settings: JudgeSettings, environment: Mapping[str, str]) -> Endpoint:
    """Find the endpoint of the settings and the environment; a server of one's own needs an address and no key, and
    a model of this machine (a package, a GGUF file, a path) no endpoint at all, unless an address is given.

    Raises:
        ConfigError: neither an address nor a key is given, so there is nobody to ask.
    """
    from difflm.models.sources import is_own_model

    if settings.base_url is None and is_own_model(settings.model):
        return Endpoint(base_url=THIS_PROCESS, api_key="none")
    key = environment.get(settings.api_key_env, "").strip()
    url = (settings.base_url or environment.get(URL_VARIABLE, "")).strip()
    if not url and not key:
        raise ConfigError(
            f"no judge to ask: neither {settings.api_key_env} nor an address is set, and no score is made up; set "
            f"{settings.api_key_env} for OpenAI, or give --base-url (or {URL_VARIABLE}) of any server that speaks its "
            "protocol, such as http://localhost:8000/v1"
        )
    if url and not url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url: {url!r} is no address; give one such as http://localhost:8000/v1")
    return Endpoint(base_url=url or OFFICIAL_URL, api_key=key or "none")
