# Every target makes the environment it needs: a fresh machine wants python3.11 or newer, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

.PHONY: test bench lint types unit docs clean

# Before a merge: what CI runs, except the documentation.
test: lint types unit

# While working: under two minutes.
.PHONY: quick fast
quick: lint types fast

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy delayplug adapters

unit: $(VENV)/ready
	$(PYTEST)

fast: $(VENV)/ready
	$(PYTEST) -m "not slow and not trains and not installs"

# What CI and the night run besides.
.PHONY: wheel wheels nightly oldest newest

# The built wheel in a fresh environment: the core and one extra; or the core and each extra by itself.
# DIST=FOLDER gets sdist and wheel once they have passed.
wheel: NAMES = core snntorch
wheel wheels:
	$(PYTHON) .ci/wheels.py $(if $(DIST),--dist "$(DIST)") $(NAMES)

# On a machine with a GPU, in the environment of PYTHON: the tests on it, then the speed at both settings.
.PHONY: gpu
gpu:
	DELAYPLUG_TEST_DEVICE=cuda $(PYTHON) -m pytest -q
	for precision in highest medium; do \
		$(PYTHON) -m delayplug speed --device cuda --precision $$precision --seconds 3 --out build/speed-$$precision.json; \
	done

# All extras, all tests with random examples, at both ends of the supported versions.
nightly: export DELAYPLUG_HYPOTHESIS = nightly
nightly: newest oldest wheels

oldest: PIP_FLAGS = --constraint .ci/oldest.txt
oldest newest:
	rm -rf .venv-$@
	$(MAKE) unit VENV=.venv-$@ PIP_FLAGS="$(PIP_FLAGS)"

bench: $(VENV)/ready
	$(BIN)/delayplug bench run --out runs/quick

docs: $(VENV)/ready
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "The site: build/docs/index.html"

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
