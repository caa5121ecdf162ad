# Two commands on a fresh clone: make demo, make test. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := hatch_build.py $(wildcard src/regard/attention/backends/cpu_kernels/*.h) \
	$(wildcard src/regard/attention/backends/cpu_kernels/*.cpp) src/regard/attention/backends/cpu_kernels/compiling.py

.DEFAULT_GOAL := help
.PHONY: help demo test lint types layers clean

help:
	@echo "make demo     train and try a translator on the embedded corpus (about 4 minutes on 2 cores)"
	@echo "make test     lint, types, layers, tests and doctests"
	@echo "make clean    remove the virtual environment and what tests left behind"
	@echo "Both install into $(VENV) first; pip's own settings (PIP_INDEX_URL, ...) are honoured."

# torch goes first and alone, so that no other requirement picks another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt $(KERNELS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "regard needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/regard demo -o demo

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	PYRIGHT_PYTHON_CACHE_DIR=$(abspath $(VENV))/pyright $(BIN)/pyright

layers: $(VENV)/.tested
	$(BIN)/lint-imports

test: lint types layers
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
