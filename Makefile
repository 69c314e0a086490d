# `make demo` and `make test` do all the set-up they need on a fresh Debian 12, as root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-all kill-matrix soak check lint unit wheel clean

help:
	@echo "make demo         JupyterHub with simulated GPUs on 127.0.0.1:8000, until Ctrl-C"
	@echo "make test         checks, unit tests, and the tests on real Docker and a real Hub"
	@echo "make test-all     the slow ones too; this is what CI runs"
	@echo "make kill-matrix  kill each part at each step, and write the table in docs/reliability.md"
	@echo "make soak         100,000 random steps, and their result in docs/reliability.md"
	@echo "make check        formatting, lint, types, import directions, unit tests: no Docker needed"
	@echo "make unit         unit tests only, in seconds"

demo: $(VENV)/demo-ready
	@$(PYTHON) tools/demo.py

test: $(VENV)/test-ready lint
	$(BIN)/pytest -m "not slow and not long"

test-all: $(VENV)/test-ready lint
	$(BIN)/pytest -m "not long"

kill-matrix: $(VENV)/test-ready
	DS01_KILL_MATRIX=docs/reliability.md $(BIN)/pytest tests/hub/kill_matrix

soak: $(VENV)/ready
	$(BIN)/python -m tests.interleavings.soak --steps 100000 --write docs/reliability.md

check: $(VENV)/ready lint unit

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/ready
	$(BIN)/pytest tests/unit

wheel: $(VENV)/ready
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || $(PYTHON) tools/setup.py packages demo
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[test,proxy]"
	@touch $@

$(VENV)/demo-ready: $(VENV)/ready
	@$(PYTHON) tools/setup.py packages demo
	@$(PYTHON) tools/proxy.py
	@touch $@

$(VENV)/test-ready: $(VENV)/ready
	@$(PYTHON) tools/setup.py packages test
	@$(PYTHON) tools/proxy.py
	@touch $@

clean:
	rm -rf $(VENV) dist
