"""Loading models that others made: none of their code runs, weights are safetensors, and every tensor is there.

These are the only calls of `from_pretrained` and `from_config`; a test looks for others that leave something out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHOWN = 3
_OWN_CODE = "trust_remote_code"  # what transformers asks for when a model brings code of its own
_ADAPTER = "adapter_config.json"


def load_configuration(model: str | Path, *, revision: str | None = None) -> Any:
    """Read a model's configuration.

    Raises:
        ModelError: the model brings code.
        OSError, ValueError, KeyError: it cannot be read.
    """
    from transformers import AutoConfig

    with _refusing_code(model):
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)


def load_tokenizer(model: str | Path, *, revision: str | None = None) -> Any:
    """Load the tokenizer of a model; raise as `load_configuration` does."""
    from transformers import AutoTokenizer

    with _refusing_code(model):
        return AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)


def load_weights(
    factory: Any,
    model: str | Path,
    *,
    revision: str | None = None,
    unread: Callable[[str], bool] = lambda name: False,
    partly: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """Load a model of a factory such as AutoModelForCausalLM, all of whose tensors came from its files.

    `unread` says which tensors may be missing because nobody reads them; with `partly` the files may hold more than
    the model, as those of a whole model hold more than its encoder.

    Raises:
        ModelError: the model brings code or is an adapter of another one, or its files lack a tensor, hold one that
            the model has no place for, or one of another shape; names them.
        OSError, ValueError, KeyError: it cannot be read.
    """
    if (Path(model) / _ADAPTER).is_file():
        raise ModelError(f"{Path(model) / _ADAPTER}: an adapter of another model; give the model with it merged in")
    with _refusing_code(model), _without_bars():
        loaded, found = factory.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise ModelError(f"{str(model)!r} is an adapter of another model; give the model with it merged in")
    missing = [name for name in found["missing_keys"] if not unread(name)]
    _refuse(model, "lack", missing)
    _refuse(model, "have in another shape", [str(entry[0]) for entry in found["mismatched_keys"]])
    _refuse(model, "have, but its configuration has no place for,", [] if partly else found["unexpected_keys"])
    whole: PreTrainedModel = loaded
    return whole


def model_of(factory: Any, configuration: Any) -> Any:
    """Build a model with random weights, of an Auto class."""
    return factory.from_config(configuration, trust_remote_code=False)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing its bar: whoever loads shows progress in a way of its own, or not at all."""
    from transformers.utils import logging as bars

    logging: Any = bars  # untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _refusing_code(model: str | Path) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the readers of these files are written in Rust, and raise Exception itself
        if _OWN_CODE in str(error):
            raise ModelError(
                f"{str(model)!r} brings Python code of its own (auto_map), which is never run; give a model that "
                "transformers itself knows"
            ) from error
        if isinstance(error, OSError | ValueError | KeyError):
            raise
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from error


def _refuse(model: str | Path, what: str, names: Sequence[str]) -> None:
    if names:
        odd = sorted(names)
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        weights = Path(model) / "model.safetensors" if Path(model).is_dir() else f"the weights of {str(model)!r}"
        raise ModelError(
            f"{weights}: the files {what} {', '.join(map(repr, odd[:_SHOWN]))}{more}; give the weights that belong to "
            "its config.json"
        )
