# `make` alone says what there is to make. Works with GNU make 4.3 and any POSIX sh.
#
# Where packages come from is pip's own business: its settings and PIP_* variables, never this file.

MAKEFLAGS += --no-print-directory
BIN := .venv/bin

# most tests wait for real processes or for the disk, and no two share anything: more of them at a time than there are
# cores; 0: all in one process
WORKERS ?= 4
PYTEST_ARGS ?=
SHAPE ?= layered
N ?= 1000
SEED ?= 1
RUNS ?= 3

POSIX_SCRIPTS = $(shell find connectors tools examples tests benchmarks deploy -type f \
	\( -name '*.sh' -o -name crossfade-checkpoint \) | LC_ALL=C sort)

.PHONY: help setup demo test service-test check format lint types imports shell fix bench bench-service failure-model constraints clean distclean

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## .venv with crossfade and all it is developed with (PYTHON=... chooses the interpreter)
	@sh tools/setup.sh

demo: setup ## reconstruct a picture, lose the facility half-way, end with the same picture
	@command -v curl >/dev/null || sh tools/apt-install.sh curl || true # what pods reach their bucket by
	@$(BIN)/crossfade demo

test: setup ## all tests; installs missing Debian packages first (WORKERS=4 PYTEST_ARGS=...)
	@sh tools/test-tools.sh
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

service-test: setup ## the part of the tests that runs whole services on real servers, through faults
	@sh tools/test-tools.sh
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal tests/service tests/faults $(PYTEST_ARGS)

check: format lint types imports shell ## format, lint, types, import contracts, shell scripts
	@echo 'check: all good'

format: setup
	@echo 'check: format (ruff)'
	@$(BIN)/ruff format --check --quiet .

lint: setup
	@echo 'check: lint (ruff)'
	@$(BIN)/ruff check --quiet .

types: setup
	@echo 'check: types (mypy, strict)'
	@$(BIN)/mypy --no-error-summary

imports: setup
	@echo 'check: who imports whom (import-linter)'
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo

shell: setup
	@echo 'check: shell scripts (shellcheck)'
	@$(BIN)/shellcheck --shell=sh $(POSIX_SCRIPTS)
	@$(BIN)/shellcheck .ci/run

fix: setup ## let ruff put right what it can
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench-service: setup ## the service beside Celery itself, over servers of its own; some five minutes
	@$(BIN)/python benchmarks/service.py

bench: setup ## stages per second and CPU per stage (SHAPE=fan|chain|layered|montage N= SEED= RUNS=)
	@$(BIN)/crossfade bench --shape $(SHAPE) --n $(N) --seed $(SEED) --runs $(RUNS)

failure-model: setup ## write the table of faults anew from the tests' marks
	@$(BIN)/python tools/failure_model.py

constraints: setup ## write constraints.txt anew from .venv and every other Python at hand
	@$(BIN)/python tools/constraints.py

clean: ## remove what tools and the demo left; .venv stays
	@rm -rf build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis ./*.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv, too
	@rm -rf .venv
