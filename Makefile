# Python 3.11, pip and make are all that a machine needs: every target makes .venv first, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BIN := .venv/bin
# Hydra overrides for `make demo` and `make smoke`: make demo ARGS="run.rounds=3"
ARGS ?=
# These share one Ray head and its engines, and run one after another; all others run two at a time.
ENGINES := tests/actors tests/jobs tests/chaos

.PHONY: help setup demo smoke lint test test-fast test-gpu proof clean
.DEFAULT_GOAL := help

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

setup: ## Make .venv from the pinned list (about four minutes, once)
	@"$(PYTHON)" scripts/environment.py

demo: setup ## The whole loop on the built-in data; make demo ARGS="run.rounds=3" passes overrides
	@$(BIN)/python jobs/submit.py jobs/dpo_loop.py experiment=demo $(ARGS)

smoke: setup ## The same loop as small as it can be, in at most 90 seconds
	@$(BIN)/python jobs/dpo_loop.py experiment=smoke $(ARGS)

lint: setup ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## Style, types and all tests that need no GPU
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not gpu" -n 2 --dist loadfile $(addprefix --ignore=,$(ENGINES))
	$(BIN)/pytest -m "not gpu" $(ENGINES)

test-fast: setup ## The tests that take seconds
	$(BIN)/pytest -m "not gpu and not slow"

test-gpu: setup ## What only a GPU can show
	$(BIN)/pytest -m gpu

proof: setup ## Whether the gain is real: the demo's loop with three seeds (about half an hour)
	$(BIN)/python jobs/proof.py $(ARGS)

clean: ## Remove .venv and the tools' caches; runs and the cache of data and features stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
