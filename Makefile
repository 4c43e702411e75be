# sparse_ae: `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ARGS ?=
DEVICE ?= cuda

# uv installs without compiling. Where this variable is set, as in many containers, each process would then compile all of
# torch and Lightning again, which takes longer than to import them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run sweep tensorboard test test-all check format benchmark gpu clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS=\"key=value ...\" passes overrides to run and sweep; PYTHON=python3.12 picks the interpreter"
	@echo "  make gpu BIN=/usr/bin takes the python of that folder as it is, instead of .venv"

# uv is an ordinary package of the index and installs several times as fast as pip, which takes its place where it
# cannot be had. On a terminal it shows its progress; elsewhere only what fails.
UV_FLAGS := $(shell [ -t 2 ] || echo --quiet)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
define install
	@echo "installing $(1) into $(VENV) (torch is large: a minute or more)"
	@$(BIN)/uv pip install $(UV_FLAGS) --python $(BIN)/python --constraint constraints.txt --editable '$(2)' \
	  || { echo "uv is not to be had: installing with pip, which takes several minutes"; \
	       $(PIP) --constraint constraints.txt --editable '$(2)'; }
endef

# Each repeated only when what is to be installed changes: the core, which trains; and everything that tests need.
$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "sparse_ae needs Python >= 3.10; set PYTHON=")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) uv 2> /dev/null || true
	$(call install,sparse_ae,.)
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(call install,the development tools,.[dev])
	@touch $@

install: $(VENV)/.core  ## create .venv and install sparse_ae into it

run: $(VENV)/.core  ## train the default model on all of MNIST, with figures and a summary
	$(BIN)/sparse-ae-train $(ARGS)

sweep: $(VENV)/.core  ## run the L1 and KL sparsity-weight sweeps and report on them
	$(BIN)/sparse-ae-train -m experiment=sparsity_weight_l1,sparsity_weight_kl $(ARGS)
	$(BIN)/sparse-ae-report outputs/sparsity_weight_l1 outputs/sparsity_weight_kl --into outputs/sparsity_weight

tensorboard: $(VENV)/.core  ## watch outputs/ at http://localhost:6006
	$(BIN)/tensorboard --logdir outputs

test: $(VENV)/.dev  ## run the fast tests, a few minutes
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: $(VENV)/.dev  ## run all tests: also real kills, launchers, lab books, the browser
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## run the gate: format, lint, types, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

format: $(VENV)/.dev  ## format the code and fix lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(VENV)/.dev  ## time a training epoch, and the weight sweeps, against plain loops
	$(BIN)/python experiments/speed/benchmark.py
	$(BIN)/python experiments/speed/sweep.py

# Needs nothing installed where BIN names an environment that exists; the package is this folder's. A test that fails does
# not stop the benchmarks: the time on a GPU may be short.
gpu: export PYTHONPATH := $(CURDIR)
gpu: $(if $(filter $(VENV)/bin,$(BIN)),$(VENV)/.dev)  ## run tests and benchmarks of a GPU; DEVICE=cpu rehearses them
	@$(BIN)/python -m pytest tests/gpu -m gpu --device $(DEVICE) --numprocesses $(if $(filter cpu,$(DEVICE)),0,4); \
	  tested=$$?; $(BIN)/python -m experiments.speed.gpu --device $(DEVICE) $(ARGS) && exit $$tested

clean:  ## remove .venv, caches and build products; outputs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
