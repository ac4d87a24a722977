# `make help` lists the targets. To manage the environment yourself: `pip install -r requirements.txt`, then `dvc repro`.

BIN := .venv/bin
PYTHON := $(BIN)/python
# The first Python 3 that runs. It only starts stages/install.py, which looks for a supported Python (3.11 to 3.13).
FIRST := $(shell for name in python3 python3.13 python3.12 python3.11 python "uv run --quiet --no-project python"; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null && echo $$name && break; done)

# DVC runs the stages as `python -m stages.NAME`, so `python` must be the environment's, without the user's settings of it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT PYTHONSAFEPATH PYTHONDEVMODE
unexport BASH_ENV ENV
INSTALL := $(if $(FIRST),$(FIRST) -I stages/install.py,echo "error: no Python was found. Type, for example, \`uv python \
  install 3.13\` (https://docs.astral.sh/uv says how to get uv), and type the command again."; false)

.PHONY: help run plan search app push pull test test-all coverage lint verify bench readme lock results advisories clean installed installed-dev installed-app installed-parallel
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: installed ## set up, run the stages that changed, print the table of models; JOBS=4: four at once
	@$(PYTHON) -m stages.run $(if $(JOBS),--jobs $(JOBS))

plan: installed ## name the stages that `make run` would run; `dvc status` says what changed
	@$(PYTHON) -m stages.run --dry

search: $(if $(MODEL),installed-parallel) ## look for better parameters by validation: MODEL=sprint; TRIALS=40: so many; JOBS=2: two at once
	@$(if $(MODEL),,echo "error: which model? Type, for example, \`make search MODEL=sprint\`." >&2; exit 1)
	@$(PYTHON) -m stages.search $(MODEL) $(if $(TRIALS),--trials $(TRIALS)) $(if $(JOBS),--jobs $(JOBS))

app: installed-app ## a page in the browser: photos, drawings, models side by side (http://127.0.0.1:7860)
	@$(PYTHON) -m stages.app

push: installed ## send results and DVC's cache of runs to its default remote
pull: installed ## get them from there: what others trained is not trained again
push pull: # DVC is silent about a broken pipe (status 141)
	@case "$$($(PYTHON) -m dvc remote list 2>/dev/null | grep '(default)$$')" in \
	"") echo "error: DVC has no default remote. Type \`dvc remote add --default NAME ADDRESS\`, as reports/README.md shows, then \
	\`make $@\`." >&2; exit 1;; \
	*[[:space:]]http://*|*[[:space:]]https://*) echo "note: the default remote is reached by HTTP. There, DVC leaves out the \
	cache of runs: only what \`dvc.lock\` names travels.";; esac
	@$(PYTHON) -m dvc $@ --run-cache || { status=$$?; if [ $$status = 141 ]; then \
	  echo "error: the connection broke. What arrived is kept: type \`make $@\` again." >&2; fi; exit $$status; }

test: installed-dev ## run the tests: offline, a few minutes on two cores
	@$(PYTHON) -m pytest

test-all: installed-dev installed-app ## run all tests, slow ones too (half an hour)
	@$(PYTHON) -m pytest -m ""

coverage: installed-dev installed-app ## run all tests (half an hour or more) and count the lines of stages/ that they run
	@rm -rf .coverage && mkdir .coverage
	@$(PYTHON) -m coverage run -m pytest -m ""
	@$(PYTHON) -m coverage combine --quiet
	@$(PYTHON) -m coverage report

lint: installed-dev ## check style and formatting
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

verify: installed-dev ## check that dvc.lock, reports/ and README.md match this code
	@planned=$$($(PYTHON) -m dvc repro --dry --allow-missing 2>&1) || { echo "$$planned"; exit 1; }; \
	if echo "$$planned" | grep "Running stage"; then \
	  echo "error: these stages would run: type \`make run readme\` and commit dvc.lock, reports/ and README.md."; exit 1; \
	else echo "dvc.lock and reports/ match this code and these parameters: no stage would run."; fi
	@$(PYTHON) -m pytest -m record

bench: installed ## compare the speed with a plain Keras notebook (a quarter of an hour or more); writes reports/benchmark.*
	@$(PYTHON) -m stages.bench

readme: installed-dev ## write the tables of README.md and of reports/*.md
	@$(PYTHON) -m stages.table --readme

lock: installed-dev ## pin the newest packages that pyproject.toml allows, run the checks, show what changed in the results
	@set -e; pins=$$(mktemp); trap 'rm -f $$pins' EXIT; lock="$(BIN)/uv pip compile pyproject.toml --universal \
	  --python-version 3.11 --fork-strategy fewest --no-annotate --quiet"; $$lock --all-extras --output-file $$pins >/dev/null; \
	for kind in "" dev app parallel; do $$lock --custom-compile-command "make lock" -c $$pins $${kind:+--extra $$kind} \
	  --output-file requirements$${kind:+-$$kind}.txt >/dev/null; done
	@if git diff --quiet -- 'requirements*.txt'; then echo "no package changed"; else \
	  git --no-pager diff --unified=0 -- 'requirements*.txt' | grep '^[-+][a-z]'; $(MAKE) results; fi

results: lint test ## run the checks, then all stages anew; show what changed in the metrics since the last commit
	@$(PYTHON) -m dvc repro --force
	@$(PYTHON) -m dvc metrics diff

AUDIT := pip-audit==2.10.1
advisories: installed-dev ## known vulnerabilities of the pinned packages, if the network knows them
	@if $(PYTHON) -c "import requests; requests.get('https://pypi.org/pypi/pip/json', timeout=10).json()" 2>/dev/null; then \
	  $(BIN)/uv tool run $(AUDIT) --version >/dev/null 2>&1 || { \
	  echo "note: not audited, because $(AUDIT) cannot be installed."; exit; }; \
	  for file in requirements*.txt; do $(BIN)/uv tool run $(AUDIT) \
	  --requirement $$file --no-deps --disable-pip --progress-spinner off || exit 1; done; \
	else echo "note: not audited, because https://pypi.org cannot be reached."; fi

clean: ## remove .venv and the files of tools; keeps data, models and DVC's cache
	@$(PYTHON) -c "from stages.runner import checkpoint; checkpoint.remove_recorded()" 2>/dev/null || true
	@rm -rf .venv .pytest_cache .ruff_cache .coverage dvc_plots
	@find stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@set -- .dvc/tmp/checkpoints/*.checkpoint; if [ -e "$$1" ]; then \
	  echo "$$# checkpoint(s) of interrupted trainings are kept: \`rm -r .dvc/tmp/checkpoints\` removes them."; fi

# Makes `.venv` once, and updates it when the pinned packages change. Otherwise returns at once.
installed:
	@$(INSTALL)

installed-dev:
	@$(INSTALL) --dev

installed-app:
	@$(INSTALL) --app

installed-parallel:
	@$(INSTALL) --parallel
