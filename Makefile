# `make help` lists the targets. Those who manage their own environment: `pip install -r requirements.txt`, `dvc repro`.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3 python3.13 python3.12 python3.11 python3.10
INSTALLED := $(VENV)/installed

# Stages are run by DVC as `python -m stages.NAME`: with the environment's Python.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run demo test lint verify bench readme lock clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: $(INSTALLED) ## set up, run what changed of the pipeline, print the table of models
	@$(BIN)/python -m stages.check
	@$(BIN)/dvc repro
	@$(BIN)/python -m stages.table

demo: $(INSTALLED) ## the whole pipeline without a network, on drawn pictures, in a temporary copy
	@$(BIN)/python -m stages.demo

test: $(INSTALLED) ## the tests: offline, without the real data
	@$(BIN)/python -m pytest

lint: $(INSTALLED) ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

verify: $(INSTALLED) ## do dvc.lock and reports/ belong to this code and these parameters?
	@planned=$$($(BIN)/dvc repro --dry --allow-missing 2>&1) || { echo "$$planned"; exit 1; }; \
	if echo "$$planned" | grep "Running stage"; then \
	  echo "error: these stages would run: type \`make run readme\` and commit dvc.lock, reports/ and README.md."; exit 1; \
	else echo "dvc.lock and reports/ belong to this code and these parameters (the frozen benchmark aside): nothing would run."; fi

bench: $(INSTALLED) ## measure the speed against a plain notebook, half an hour or more; writes reports/benchmark.*
	@$(BIN)/python -m stages.bench
	@$(BIN)/dvc commit --force bench

readme: $(INSTALLED) ## write the table of models into README.md
	@$(BIN)/python -m stages.table --readme

lock: ## pin the dependencies of pyproject.toml in requirements.txt (needs uv)
	@uv pip compile pyproject.toml --universal --python-version 3.10 --fork-strategy fewest --no-annotate \
	  --custom-compile-command "make lock" --quiet --output-file requirements.txt

clean: ## remove the environment and what tools leave; never a download, a model or the cache
	@rm -rf $(VENV) .pytest_cache .ruff_cache dvc_plots
	@find stages tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of the supported Pythons that can make an environment, made once and again when requirements.txt changes.
$(INSTALLED): requirements.txt
	@if [ ! -x $(BIN)/pip ]; then \
	  for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	    supported=$$python; \
	    $$python -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    able=$$python; break; \
	  done; \
	  if [ -z "$$supported" ]; then \
	    echo "error: no Python from 3.10 to 3.13 was found ($$(python3 --version 2>&1)). Install one, for example" \
	         "\`sudo apt install python3 python3-venv\` or from https://www.python.org, and type the command again."; exit 1; \
	  elif [ -z "$$able" ]; then \
	    echo "error: $$supported cannot make an environment: its modules venv and ensurepip are missing. On Debian or" \
	         "Ubuntu type \`sudo apt install python3-venv\`, then the command again."; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$able --version)"; $$able -m venv $(VENV); \
	fi
	@echo "Installing the pinned packages (once; some minutes)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
