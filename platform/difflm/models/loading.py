"""Loading models that others made: none of their code runs, weights are safetensors, and every tensor is there.

These are the only calls of `from_pretrained` and `from_config`; a test looks for others that leave something out.
Whatever is called a model here may be any of what `sources` names: a hub id, a folder, a GGUF file, a package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import ModelError, is_fault
from difflm.models.gguf_files import is_unpacked, read_head, unpack, unpacked_folder
from difflm.models.sources import guard_hub, is_gguf, located
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHOWN = 3
_OWN_CODE = "trust_remote_code"  # what transformers asks for when a model brings code of its own
_MAX_NUMBERS = {
    "num_labels": 100_000,
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 10_000
    ),
}
_ADAPTER = "adapter_config.json"
_MAX_LENGTH = 2**20  # tokens that a text is filled up to
_MAX_GROWTH = 10_000


def load_configuration(model: str | Path, *, revision: str | None = None) -> Any:
    """Read a model's configuration; that of a GGUF file from its head, without unpacking it.

    Raises:
        ModelError: the model brings code, is not where its name says, or is a GGUF file that cannot be used.
        OSError, ValueError, KeyError: it cannot be read.
    """
    from transformers import AutoConfig, PretrainedConfig

    found = located(model)
    if is_gguf(found):
        file = Path(found)
        if not is_unpacked(unpacked_folder(file)):
            read_head(file)
            with _refusing_code(model):
                return AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        found = unpacked_folder(file)
    with _refusing_code(model):
        facts, _ = PretrainedConfig.get_config_dict(found, revision=revision, trust_remote_code=False)
        _refuse_numbers(facts, str(model))
        return AutoConfig.from_pretrained(found, revision=revision, trust_remote_code=False)


def _refuse_numbers(facts: object, model: str) -> None:
    """Refuse a configuration that a list is made of, entry by entry, for more entries than any model has."""
    parts = [facts]
    while parts:
        part = parts.pop()
        for name, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, int) and value > _MAX_NUMBERS.get(name, value):
                raise ModelError(
                    f"{model!r}: {name} is {value:,} in its config.json; {_MAX_NUMBERS[name]:,} is the most"
                )
            parts.append(value)


def loadable(model: str | Path) -> str | Path:
    """Return what every library loads of a model: its folder or hub id; a GGUF file is unpacked first.

    Raises:
        ModelError: it is not where its name says, or cannot be unpacked.
        StorageError: there is no room to unpack it.
    """
    found = located(model)
    return unpack(Path(found), _unpack_gguf) if is_gguf(found) else found


def _unpack_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF file's model in float32, with its configuration and tokenizer.

    Raises:
        ModelError: transformers cannot read it, or a tensor is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from difflm.models.compact import save_model

    factory: Any = AutoModelForCausalLM
    try:
        # its bar of converted tensors is tqdm's own, which writes where sys.stderr leads
        with _refusing_code(file), _without_bars(), redirect_stderr(StringIO()):
            model, found = factory.from_pretrained(
                file.parent,
                gguf_file=file.name,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{file}: transformers cannot unpack this GGUF file: {reason}; give its own folder") from error
    _refuse(file, "lack", [str(name) for name in found["missing_keys"]])
    configuration: Any = model.config
    if hasattr(configuration, "quantization_config"):
        del configuration.quantization_config  # the weights are plain from here on
    save_model(model, folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(model: str | Path, *, revision: str | None = None) -> Any:
    """Load the tokenizer of a model; raise as `load_configuration` does."""
    from transformers import AutoTokenizer

    found = loadable(model)
    with _refusing_code(model):
        _refuse_growth(Path(found) / "tokenizer.json")
        return AutoTokenizer.from_pretrained(found, revision=revision, trust_remote_code=False)


def _refuse_growth(path: Path) -> None:
    """Refuse a tokenizer that makes far more of a text than is in it: fills it up, or replaces letters by long texts.

    Raises:
        ModelError: names the file and the part.
    """
    if not path.is_file():
        return
    facts = parse_json(read_file(path))
    for name in ("padding", "truncation") if isinstance(facts, dict) else ():
        if (most := max(_numbers(facts.get(name)), default=0)) > _MAX_LENGTH:
            raise ModelError(f"{path}: {name} to {most:,} tokens; {_MAX_LENGTH:,} is the most")
    for name in ("normalizer", "decoder") if isinstance(facts, dict) else ():
        growth = math.prod(max(1, len(text)) for text in _replacements(facts.get(name)))
        if growth > _MAX_GROWTH:
            raise ModelError(f"{path}: {name}: makes texts {growth:,} times as long; {_MAX_GROWTH:,} times is the most")


def _numbers(part: object) -> Iterator[int]:
    if isinstance(part, int):
        yield part
    for inside in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _numbers(inside)


def _replacements(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (text for key in ("content", "prepend") if isinstance(text := part.get(key), str))
    for inside in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _replacements(inside)


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
    source = loadable(model)
    if (Path(source) / _ADAPTER).is_file():
        raise ModelError(f"{Path(source) / _ADAPTER}: an adapter of another model; give the model with it merged in")
    _refuse_size(factory, source, revision)
    with _refusing_code(model), _without_bars():
        loaded, found = factory.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise ModelError(f"{str(model)!r} is an adapter of another model; give the model with it merged in")
    missing = [name for name in found["missing_keys"] if not unread(name)]
    _refuse(source, "lack", missing)
    _refuse(source, "have in another shape", [str(entry[0]) for entry in found["mismatched_keys"]])
    _refuse(source, "have, but its configuration has no place for,", [] if partly else found["unexpected_keys"])
    whole: PreTrainedModel = loaded
    return whole


def model_of(factory: Any, configuration: Any) -> Any:
    """Build a model with random weights, of an Auto class."""
    return factory.from_config(configuration, trust_remote_code=False)


def _refuse_size(factory: Any, source: str | Path, revision: str | None) -> None:
    """Refuse a configuration of a far larger model than its files: transformers makes up what they lack, or have in
    another shape, and says so afterwards.

    Raises:
        ModelError: the model brings code, or its configuration does not belong to its weights.
        OSError, ValueError, KeyError: it cannot be read.
    """
    import torch

    held = _weight_bytes(source, revision)
    if held is None:
        return  # what is not there is told where it is loaded
    configuration = load_configuration(source, revision=revision)
    with _refusing_code(source), torch.device("meta"):
        whole = model_of(factory, configuration) if hasattr(factory, "from_config") else factory(configuration)
    numbers = sum(value.numel() for value in whole.parameters())
    made = sum(value.numel() for value in whole.buffers())
    if numbers > _NUMBERS_PER_BYTE * held + _SPARE_NUMBERS or made > held + _MADE_NUMBERS:
        raise ModelError(
            f"{str(source)!r}: its config.json describes a model of {numbers + made:,} numbers, and its files have "
            f"{held:,} bytes; give the weights that belong to its config.json"
        )


_NUMBERS_PER_BYTE = 8  # of weights that are quantised to a bit
_SPARE_NUMBERS = 1 << 24  # that nobody reads, and that may be missing
_MADE_NUMBERS = 1 << 28  # that a model makes itself, such as those of positions


def _weight_bytes(source: str | Path, revision: str | None) -> int | None:
    """Return the size of a model's safetensors, which are fetched where they are on the hub; None without any."""
    from transformers.utils.hub import cached_file

    def found(name: str) -> Path | None:
        path = cached_file(
            str(source),
            name,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if path is None else Path(path)

    if (whole := found("model.safetensors")) is not None:
        return whole.stat().st_size
    if (index := found("model.safetensors.index.json")) is None:
        return None
    parts = parse_json(read_file(index)).get("weight_map", {}).values()
    files = [found(name) for name in {Path(str(part)).name for part in parts}]
    return sum(file.stat().st_size for file in files if file is not None)


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
    guard_hub()
    try:
        yield
    except ModelError:
        raise
    except BaseException as error:  # the readers of these files are written in Rust: Exception itself, or panics
        if not is_fault(error):
            raise
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
