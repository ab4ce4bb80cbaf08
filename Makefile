# make run    set everything up, then build the default curriculum and show what came of it
# make compare  the same for every arm of the comparison, side by side
# make test   set everything up, then check format, lint, types and run the tests
# make bench  a GRPO step beside TRL's, and in two processes; make bench-equality: its losses and gradients
# make setup  only the environment in .venv
SHELL := /bin/bash
PYTHON ?= python3.11
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

.PHONY: bench bench-equality
bench: setup .venv-trl/ready
	@python -m bench.performance
	@python -m bench.scaling

bench-equality: setup .venv-trl/ready
	@python -m bench.equality

# TRL, for measurements beside it only; the product never imports it.
.venv-trl/ready: bench/trl/requirements.txt
	@echo "setting up .venv-trl (TRL, for the measurements beside it)"
	@test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	@.venv-trl/bin/pip install --quiet "$$(grep '^torch==' bench/trl/requirements.txt)"
	@.venv-trl/bin/pip install --quiet -r bench/trl/requirements.txt
	@touch $@

.PHONY: run compare test setup format clean
run: setup
	@python -m flows.curriculum $(POLICY)

compare: setup
	@python -m flows.curriculum compare

test: setup
	ruff format --check .
	ruff check .
	mypy
	pytest -n 2 --dist loadgroup

format: setup
	ruff format .
	ruff check --fix .

setup: .venv/ready

# torch first and by its exact version: another package's open range would draw a newer build with its CUDA packages.
.venv/ready: requirements.lock pyproject.toml
	@echo "setting up .venv (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet "setuptools>=80" wheel
	@$(BIN)/pip install --quiet "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/pip install --quiet --no-build-isolation -r requirements.lock
	@$(BIN)/pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@

clean:
	rm -rf .venv .venv-trl mlruns .upaya policies results reports questions data
