# The two commands of the README are `make serve` and `make test`; everything else is for developers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := $(BIN)/uv

.PHONY: serve test bench bench-tasks bench-live lint types docs lock clean
.DEFAULT_GOAL := serve

# The environment: exactly what requirements.lock says, checked by hash, plus this project, editable.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

serve: $(READY)  ## start the server on 127.0.0.1:8000
	$(BIN)/qasr serve

test: $(READY)  ## run all tests
	$(BIN)/python -m pytest -n auto

bench: $(READY)  ## measure accuracy, speed and memory; writes bench-results/
	$(BIN)/python -m benchmarks

bench-tasks: $(READY)  ## the same for recordings of 12 hours, 20 to 40 minutes
	$(BIN)/python -m benchmarks tasks

bench-live: $(READY)  ## the same for speech while it is spoken, 15 to 20 minutes
	$(BIN)/python -m benchmarks live

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

docs: $(READY)  ## fill the generated parts of the documentation
	$(BIN)/python docs/generate.py

lock:  ## write requirements.lock anew from pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group dev --output-file requirements.lock pyproject.toml lock-extra.in

clean:
	rm -rf $(VENV)
