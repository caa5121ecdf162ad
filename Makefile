# Two commands on a fresh clone: make demo, make test; while working: make quick. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := hatch_build.py $(foreach folder,attention/backends/cpu_kernels generation/native, \
	$(wildcard src/regard/$(folder)/*.h) $(wildcard src/regard/$(folder)/*.cpp)) \
	src/regard/attention/backends/cpu_kernels/compiling.py
# A process a core, each on one thread: small tests gain nothing from a second one. Bytecode is kept, so
# that neither the next run nor the processes that tests start compile everything again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Slow tests wait for the processes that they start: all have one worker more than there are cores.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

.DEFAULT_GOAL := help
.PHONY: help demo pictures test all-tests quick lint types layers clean

help:
	@echo "make demo     train and try a translator on the embedded corpus (about 4 minutes on 2 cores)"
	@echo "make test     lint, types, layers, tests and doctests (about 9 minutes on two cores)"
	@echo "make quick    lint, and the tests that are not slow (about 80 seconds)"
	@echo "make draws    2,000 drawn commands on damaged files and folders (about 5 minutes)"
	@echo "make clean    remove the virtual environment and what tests left behind"
	@echo "They install into $(VENV) first; pip's own settings (PIP_INDEX_URL, ...) are honoured."

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

# The pictures of README.md and docs/pictures.md, of the model of the demo.
pictures: demo
	$(BIN)/regard info demo --diagram svg -o docs/pictures/architecture.svg
	$(BIN)/regard explain demo "<de> in 3 hours" -o docs/pictures/explanation.svg

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	PYRIGHT_PYTHON_CACHE_DIR=$(abspath $(VENV))/pyright $(BIN)/pyright

layers: $(VENV)/.tested
	$(BIN)/lint-imports

# The check of types has one thread and runs next to the tests.
test: lint layers
	$(MAKE) --no-print-directory --jobs=2 types all-tests

all-tests: $(VENV)/.tested
	$(PYTEST) -n $(WORKERS)

quick: lint
	$(PYTEST) -m "not slow" --hypothesis-profile=quick

draws: $(VENV)/.tested
	$(PYTEST) --hypothesis-profile=many tests/contracts/test_drawn_commands.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
