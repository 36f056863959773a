#!/usr/bin/env bash
# Run tests with the oldest versions that are supported, in an environment of their own, gone afterwards:
#   infra/oldest.sh                       resolve only: is there a set of versions that holds constraints-oldest.txt?
#   infra/oldest.sh tests/unit/difflm     install it and run these tests
# PYTHON is the interpreter (3.11), PIP_OPTIONS are passed to pip, as in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet --constraint constraints-oldest.txt)
# shellcheck disable=SC2086
if [ $# -eq 0 ]; then
  "${pip[@]}" ${PIP_OPTIONS:-} --dry-run --ignore-installed '.[dev]'  # with the extras, which have floors of their own
  echo "==> constraints-oldest.txt can be installed"
else
  "${pip[@]}" ${PIP_OPTIONS:-} --editable '.[dev]'
  # Old libraries use what newer ones, which they did not know, have deprecated since.
  "$folder/bin/python" -m pytest -q -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning "$@"
fi
