# Needs git, make and Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
ANSWERS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint format snapshots release clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is older than 3.11; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV= $(BIN)/uv sync --quiet --python $(BIN)/python
	@touch $@

demo: .venv/.installed ## render, train, promote, serve, ask (ANSWERS="framework=pytorch task=regression")
	@$(BIN)/python scripts/demo.py $(ANSWERS)

test: .venv/.installed ## run every test, a worker more than cores (ARGS="-k workflows" picks)
	$(BIN)/pytest --numprocesses=auto $(ARGS)

quick: .venv/.installed ## run the tests that install no project
	$(BIN)/pytest --numprocesses=auto -m "not executed" $(ARGS)

lint: .venv/.installed ## check format, style, types and workflows
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/actionlint .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline --no-progress .github/workflows

format: .venv/.installed ## rewrite the code in the repository's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

snapshots: .venv/.installed ## record the trees of files that the answers render
	$(BIN)/pytest tests/test_trees.py --rewrite-snapshots

release: .venv/.installed ## check a release, record it with APPLY=1 (VERSION=0.2.0 COMMIT=HEAD)
	@$(BIN)/python scripts/release.py $(VERSION) --commit $(or $(COMMIT),HEAD) $(if $(APPLY),--apply)

clean: ## remove the environment and the caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
