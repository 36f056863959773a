"""Script: a decoder whose hub id has no revision, in a hub cache of this script's own; see test_pretrained.py.

The environment says HF_HUB_OFFLINE=1 and HF_HOME. Arguments: the cache's folder, the prepared data.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq

from difflm.errors import ModelError
from difflm.models.decoder import PretrainedDecoderConfig
from difflm.models.decoder_store import load_decoder, write_tokenizer
from difflm.models.pretrained import hash_weights
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import read_schema
from difflm.testing.models import save_decoder

FIRST, SECOND = "a" * 40, "b" * 40
ID = "somebody/tiny"


def publish(repository: Path, commit: str, *, seed: int) -> None:
    """What downloading the main branch leaves in the cache."""
    save_decoder(repository / "snapshots" / commit, "llama", seed=seed)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def main(home: Path, prepared: Path) -> None:
    repository = home / "hub" / "models--somebody--tiny"
    schema = read_schema(prepared)
    literals = JsonRecordCodec(schema).value_literals(pq.read_table(prepared / "train.parquet"))
    publish(repository, FIRST, seed=0)
    parts = write_tokenizer(home / "decoder", PretrainedDecoderConfig(model=ID), schema, literals)
    assert parts.facts["config"]["model"] == ID
    assert parts.facts["config"]["revision"] == FIRST, parts.facts["config"]
    publish(repository, SECOND, seed=1)
    decoder, _ = load_decoder(home / "decoder", schema)
    assert hash_weights(decoder.model) == parts.facts["weights_sha256"], "the newer commit was loaded"
    shutil.rmtree(repository / "snapshots" / FIRST)
    for problem in (load_decoder, write_tokenizer):
        try:
            if problem is load_decoder:
                load_decoder(home / "decoder", schema)
            else:
                write_tokenizer(home / "none", PretrainedDecoderConfig(model="somebody/none"), schema, literals)
        except ModelError as error:
            print(error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
