"""Fixtures of the platform's tests: one thread, tiny saved models and one bundle of untrained models per session."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from difflm.testing.tables import mixed_table


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_stages(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Stage folders and bundle of untrained models for `mixed_table(80)`; not to be changed."""
    from difflm.testing.bundles import untrained_stages

    return untrained_stages(tmp_path_factory.mktemp("stages"), mixed_table(80))


@pytest.fixture(scope="session")
def spelled_stages(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The same with numbers in single digits, as llguidance and vLLM need them."""
    from difflm.testing.bundles import TINY_DECODER, untrained_stages

    decoder = TINY_DECODER.model_copy(update={"number_pairs": False})
    return untrained_stages(tmp_path_factory.mktemp("spelled"), mixed_table(80), decoder=decoder)


@pytest.fixture(scope="session")
def any_order_stages(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The same of a decoder that writes in any order, beside a pooled latent and without a conditional prior."""
    from difflm.testing.bundles import TINY_POOLED_SHAPE, untrained_stages

    return untrained_stages(tmp_path_factory.mktemp("any_order"), mixed_table(80), shape=TINY_POOLED_SHAPE)


@pytest.fixture
def vllm_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double of vLLM in place of the package, and a GPU that is said to be there."""
    import torch

    from difflm.testing.vllm_double import vllm_double

    package = vllm_double()
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", package.sampling_params)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture(scope="session")
def saved_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a decoder family to the folder of a tiny model of it."""
    from difflm.testing.models import DECODER_FAMILIES, save_decoder

    root, known = tmp_path_factory.mktemp("decoders"), dict[str, Path]()

    def resolve(family: str) -> Path:
        (name,) = [item for item in DECODER_FAMILIES if item == family]
        if name not in known:
            known[name] = save_decoder(root / name, name)
        return known[name]

    return resolve


@pytest.fixture(scope="session")
def saved_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an encoder family to the folder of a tiny model of it."""
    from difflm.testing.models import ENCODER_FAMILIES, save_encoder

    root, known = tmp_path_factory.mktemp("encoders"), dict[str, Path]()

    def resolve(family: str) -> Path:
        (name,) = [item for item in ENCODER_FAMILIES if item == family]
        if name not in known:
            known[name] = save_encoder(root / name, name)
        return known[name]

    return resolve
