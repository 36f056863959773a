#!/usr/bin/env bash
# Make the files of a release in dist/, and refuse what is not ready for one. Nothing is uploaded.
#   infra/release.sh 0.2.0
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?give the version, such as: infra/release.sh 0.2.0}
refuse() { echo "error: $*" >&2; exit 2; }

[ "$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" = "$version" ] \
  || refuse "pyproject.toml has another version than $version; change it there"
[ "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' platform/difflm/__init__.py)" = "$version" ] \
  || refuse "platform/difflm/__init__.py has another __version__ than $version; change it there"
grep -q "^## \[$version\]" CHANGELOG.md \
  || refuse "CHANGELOG.md has no section '## [$version]'; rename '## [Unreleased]' and start a new one"
[ -z "$(git status --porcelain)" ] || refuse "files are not committed; commit or remove what git status shows"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet build twine
rm -rf dist
"$folder/bin/python" -m build --outdir dist .
"$folder/bin/python" -m twine check --strict dist/*

echo "==> dist/ holds $version; its section of the changelog:"
awk -v head="## [$version]" 'index($0, head) == 1 { on = 1; next } /^## \[/ { on = 0 } on' CHANGELOG.md
echo "==> then: git tag v$version && git push --tags && twine upload dist/*"
