# Every target makes the environment it needs: a fresh machine wants python3.11 or newer, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: test bench lint types unit docs clean

test: lint types unit

bench: $(VENV)/ready
	$(BIN)/delayplug bench run --out runs/quick

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy delayplug adapters

unit: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

docs: $(VENV)/ready
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "The site: build/docs/index.html"

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
