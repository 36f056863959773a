"""`difflm sign`, `difflm verify` and `--signed-by`: whether files are those that were written, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflm.errors import ConfigError
from difflm_jobs.cli.terminal import RUNS, Runs, output, print_line

SignedBy = Annotated[
    Path | None,
    typer.Option(metavar="PUBLIC_KEY", help="Refuse a bundle that was not signed with this key; see difflm sign."),
]

signing_app = typer.Typer()


@signing_app.command()
def sign(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle, a .difflm file, or a run that has one.")] = None,
    key: Annotated[Path | None, typer.Option(help="The file of a private Ed25519 key, in PEM.")] = None,
    make_key: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Make a key: PATH for you alone, PATH.pub for everybody.")
    ] = None,
) -> None:
    """Sign a bundle, so that others can tell that it is yours and unchanged."""
    from difflm.synthesis import signatures

    if (make_key is None) == (bundle is None) or (key is None) != (bundle is None):
        raise ConfigError("difflm sign: give a BUNDLE and --key KEY, or --make-key PATH alone")
    if make_key is not None:
        public = signatures.make_key(make_key)
        print_line(output(), f"{make_key}: the private key; {public}: the public one, for --signer and --signed-by")
        return
    from difflm.synthesis.bundle import bundle_folder
    from difflm.synthesis.sharing.container import sign_container
    from difflm.synthesis.sharing.hub import HubPlace

    assert bundle is not None
    assert key is not None
    if HubPlace.is_one(bundle):
        raise ConfigError(f"{bundle}: is signed before it is pushed; sign the file or the run, and push that")
    if bundle.is_file():
        print_line(output(), f"{bundle}: signed with {sign_container(bundle, key)}")
        return
    folder = bundle_folder(bundle)
    print_line(output(), f"{folder}: signed with {signatures.sign_bundle(folder, key)}")


@signing_app.command()
def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="An experiment's name or folder, a bundle or its file, a dataset.")
    ],
    signer: Annotated[
        Path | None, typer.Option(metavar="PUBLIC_KEY", help="The key that the bundle must be signed with.")
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Compare every file of an experiment's artifacts, of a bundle or of a dataset with what was written."""
    from difflm.synthesis.sharing.places import is_generator
    from difflm_jobs.cli.summary import verified_line, verify_experiment
    from difflm_jobs.experiment import find_experiment
    from difflm_jobs.rows.verify_dataset import is_dataset, verify_dataset

    if is_generator(run):
        print_line(output(), _verified_bundle(Path(run), signer))
    elif is_dataset(run):
        if signer is not None:
            raise ConfigError(f"--signer: {run} is a dataset, and bundles are what is signed; leave it out")
        print_line(output(), verified_line(verify_dataset(run)))
    else:
        verify_experiment(run, runs, output())
        if signer is not None:
            print_line(output(), _verified_bundle(find_experiment(run, runs), signer))


def _verified_bundle(given: Path, signer: Path | None) -> str:
    """Compare a bundle with its hashes and, where there is a signer, with its signature; returns a line about it."""
    from difflm.synthesis.bundle import bundle_folder
    from difflm.synthesis.bundle_files import check_files
    from difflm.synthesis.signatures import check_signature, read_public_key

    folder = bundle_folder(given)
    shown = given if given.is_file() else folder
    if signer is None:
        check_files(folder)
        return f"{shown}: all files as written"
    key = read_public_key(signer)
    check_signature(folder, key)
    check_files(folder)
    return f"{shown}: all files as written, signed with {key}"


def signer_setting(signed_by: Path | None, section: str) -> list[str]:
    """Return the --set of a sampling section that demands a signature; none where none is demanded.

    Raises:
        ConfigError: no public key can be read, or `cryptography` is missing.
    """
    if signed_by is None:
        return []
    from difflm.synthesis.signatures import read_public_key

    return [f"{section}.signed_by={read_public_key(signed_by)}"]
