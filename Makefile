# make run    set everything up, then build the default curriculum and show what came of it
# make compare  the same for every arm of the comparison, side by side
# make test   set everything up, then check format, lint, types and imports, and run the tests
# make check  the same without the tests that train: some two minutes, for every day
# make bench  a GRPO step beside TRL's, and in two processes; make bench-equality: its losses and gradients
# make setup  only the environment in .venv
SHELL := /bin/bash
POLICY ?= lenient-strict
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# No telemetry from any of the tools. DeepSpeed builds no kernels at install time.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DS_BUILD_OPS := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The first of these that runs, is of a supported version and can make an environment; `make PYTHON=…` names another.
# 3.11 stands first: what the docs report was measured on it.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# A new environment in the folder $(1). What is there already is half made: an interrupted pip leaves packages in pieces.
new = rm -rf $(1); for python in $(PYTHONS); do \
	"$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 && exec "$$python" -m venv $(1); done; \
	echo "error: Python 3.11, 3.12 or 3.13 with its venv module is needed, and this is none: $(PYTHONS)." \
	"Name one: make PYTHON=/path/to/python3.11" >&2; exit 1
# Modules are compiled when they are first imported: most never are, and compiling all takes longer than the rest. What
# every stage imports is imported once at the end: a Python told to write no bytecode would compile it at every start.
INSTALL := -m pip install --quiet --no-compile
COMPILE := from upaya.startup import start; start(); import tasks.grpo, tasks.evaluate, tasks.repro, flows.curriculum, \
	prefect.server.api.server, uvicorn.server, deepspeed, matplotlib.figure, matplotlib.backends.backend_agg, tasks.page, dvc.commands.repro

.PHONY: bench bench-equality
bench: setup .venv-trl/ready
	@python -m bench.performance
	@python -m bench.scaling

bench-equality: setup .venv-trl/ready
	@python -m bench.equality

# TRL, for measurements beside it only; the product never imports it.
.venv-trl/ready: bench/trl/requirements.txt
	@echo "setting up .venv-trl (TRL, for the measurements beside it)"
	@test -e $@ || { $(call new,.venv-trl); }
	@rm -f $@
	@.venv-trl/bin/python $(INSTALL) -r bench/trl/requirements.txt
	@touch $@

# A third worker on two cores: much of what is tested waits for a process.
SIDE_BY_SIDE := -n 3 --dist loadgroup --no-loadscope-reorder

.PHONY: run compare test check lint setup format clean
run: setup
	@python -m flows.curriculum $(POLICY)

compare: setup
	@python -m flows.curriculum compare

test: lint
	pytest $(SIDE_BY_SIDE)

check: lint
	pytest $(SIDE_BY_SIDE) -m "not training"

lint: setup
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-logo

format: setup
	ruff format .
	ruff check --fix .

setup: .venv/ready

# pip first: the one that comes with Python may take three times as long. Then torch with what it depends on: the CUDA
# packages are its own choice, and DeepSpeed is built beside it. Then the lock: it is complete, nothing is to be resolved.
.venv/ready: requirements.lock pyproject.toml
	@echo "setting up .venv (minutes the first time; torch alone is large where it comes with CUDA)"
	@test -e $@ || { $(call new,.venv); }
	@rm -f $@
	@$(BIN)/python $(INSTALL) pip setuptools -c requirements.lock
	@$(BIN)/python $(INSTALL) torch -c requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python $(INSTALL) --no-build-isolation --no-deps -r requirements.lock -e .
	@env -u PYTHONDONTWRITEBYTECODE DS_ACCELERATOR=cpu $(BIN)/python -c '$(COMPILE)'
	@touch $@

clean:
	rm -rf .venv .venv-trl mlruns .upaya policies results reports questions data
