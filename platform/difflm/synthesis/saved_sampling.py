"""How a saved generator draws: beside its bundle, so that it writes the rows that it wrote before."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from difflm.errors import BundleError
from difflm.regular_files import read_file
from difflm.synthesis.synthesizer import SamplingConfig

SAMPLING_NAME = "sampling.json"
_MOST = {"attempts": 100_000, "batch_size": 1_000_000, "text_tokens": 1_000_000}
"""What a bundle may ask for of whoever loads it; a user's own settings may be more."""
_NOT_KEPT = {"allow_local_base", "signed_by"}  # whoever loads a bundle says whom they trust, not the bundle


def write_sampling(folder: Path, sampling: SamplingConfig) -> None:
    """Write the sampling.json of a saved generator."""
    kept = {"solver": None, **sampling.model_dump(mode="json", exclude=_NOT_KEPT)}
    (folder / SAMPLING_NAME).write_text(json.dumps(kept, indent=2))


def read_sampling(folder: Path) -> SamplingConfig | None:
    """Read the sampling.json of a folder; None where there is none.

    Raises:
        BundleError: the file is damaged or of a newer version.
    """
    path = folder / SAMPLING_NAME
    if not path.is_file():
        return None
    try:
        found = SamplingConfig.model_validate_json(content := read_file(path))
        if "solver" not in json.loads(content):  # written when there was none but Heun's
            found = found.model_copy(update={"solver": "heun"})
    except ValidationError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: not readable ({reason}); save the generator again") from error
    for name, most in _MOST.items():
        if (value := getattr(found, name) or 0) > most:
            raise BundleError(f"{path}: {name} is {value:,}, and {most:,} is the most that is kept; save it again")
    return found.model_copy(update={name: SamplingConfig.model_fields[name].default for name in _NOT_KEPT})
