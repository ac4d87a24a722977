# `make help` lists the targets. Those who manage their own environment: `pip install -r requirements.txt`, `dvc repro`.

BIN := .venv/bin
PYTHON := $(BIN)/python
# Any Python 3 can look for one that the packages are there for, and make the environment with it.
FIRST := $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null && echo $$name && break; done)

# Stages are run by DVC as `python -m stages.NAME`: with the environment's Python. What these variables hold would reach it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT PYTHONSAFEPATH PYTHONDEVMODE
unexport BASH_ENV ENV
INSTALL := $(if $(FIRST),$(FIRST) -I stages/install.py,echo "error: no Python was found. Install one, for example with \
  \`sudo apt install python3 python3-venv\` or from https://www.python.org, and type the command again."; false)

.PHONY: help run demo test lint verify bench readme lock clean installed installed-dev
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: installed ## set up, run what changed of the pipeline, print the table of models
	@$(PYTHON) -m stages.run

demo: installed ## the whole pipeline without a network, on drawn pictures, in a temporary copy
	@$(PYTHON) -m stages.demo

test: installed-dev ## the tests: offline, without the real data
	@$(PYTHON) -m pytest

lint: installed-dev ## check style and formatting
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

verify: installed-dev ## do dvc.lock, reports/ and README.md belong to this code and these parameters?
	@planned=$$($(PYTHON) -m dvc repro --dry --allow-missing 2>&1) || { echo "$$planned"; exit 1; }; \
	if echo "$$planned" | grep "Running stage"; then \
	  echo "error: these stages would run: type \`make run readme\` and commit dvc.lock, reports/ and README.md."; exit 1; \
	else echo "dvc.lock and reports/ belong to this code and these parameters (the frozen benchmark aside): nothing would run."; fi
	@$(PYTHON) -m pytest -m record

bench: installed ## measure the speed against a plain notebook, half an hour or more; writes reports/benchmark.*
	@$(PYTHON) -m stages.bench
	@$(PYTHON) -m dvc commit --force bench

readme: installed-dev ## write the tables of models into README.md, and that of faults into tests/README.md
	@$(PYTHON) -m stages.table --readme
	@$(PYTHON) -m tests.faults

lock: ## pin the dependencies of pyproject.toml in requirements.txt and requirements-dev.txt (needs uv)
	@uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest --no-annotate \
	  --custom-compile-command "make lock" --quiet --output-file requirements.txt
	@uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest --no-annotate \
	  --custom-compile-command "make lock" --quiet --output-file requirements-dev.txt --extra dev -c requirements.txt

clean: ## remove the environment and what tools leave; never a download, a model or the cache
	@rm -rf .venv .pytest_cache .ruff_cache dvc_plots
	@find stages tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Quick where all is done: `.venv` is made once, and again when the pinned packages change.
installed:
	@$(INSTALL)

installed-dev:
	@$(INSTALL) --dev
