# sparse_ae: `make help` lists what there is.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test check format sweep tensorboard benchmark clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=\"key=value ...\" passes overrides to run and sweep; PYTHON=python3.12 picks the interpreter"

# One install for everything, repeated only when what is to be installed changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "sparse_ae needs Python >= 3.10; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## create .venv and install

run: install  ## train the default model on all of MNIST, with figures and a summary
	$(BIN)/sparse-ae-train $(ARGS)

sweep: install  ## the two sparsity-weight sweeps, L1 and KL, and their report
	$(BIN)/sparse-ae-train -m experiment=sparsity_weight_l1,sparsity_weight_kl $(ARGS)
	$(BIN)/sparse-ae-report outputs/sparsity_weight_l1 outputs/sparsity_weight_kl --into outputs/sparsity_weight

tensorboard: install  ## watch outputs/ at http://localhost:6006
	$(BIN)/tensorboard --logdir outputs

test: install  ## the whole test suite
	$(BIN)/python -m pytest

check: install  ## the one gate: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

format: install  ## format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: install  ## time a training epoch, and the weight sweeps, against plain loops
	$(BIN)/python experiments/speed/benchmark.py
	$(BIN)/python experiments/speed/sweep.py

clean:  ## remove .venv, caches and build products; outputs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
