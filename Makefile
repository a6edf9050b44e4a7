# The two commands of the README are `make serve` and `make test`; everything else is for developers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := $(BIN)/uv
# The engines of the extras have an environment of their own: torch is as large as all the rest.
ENGINES := .venv-engines
OFFICIAL := .venv-qwen-asr

.PHONY: serve test test-engines fuzz bench bench-accuracy bench-tasks bench-live bench-mixed bench-engines lint types docs lock clean
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

$(ENGINES)/.ready: requirements.lock requirements-engines.txt pyproject.toml
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	test -x $(ENGINES)/bin/uv || $(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(ENGINES)/bin/uv pip sync --quiet --python $(ENGINES)/bin/python --require-hashes requirements.lock
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-engines.txt
	$(ENGINES)/bin/uv pip install --quiet --python $(ENGINES)/bin/python --no-deps --no-build-isolation --editable .
	touch $@

test-engines: $(ENGINES)/.ready  ## run the tests of the engines that are extras
	$(ENGINES)/bin/python -m pytest tests/engines/qwen3

fuzz: $(READY)  ## try 20 times as many and other requests, frames, files and addresses as `make test`
	FUZZ_TIMES=$${FUZZ_TIMES:-20} $(BIN)/python -m pytest --timeout 3600 tests/safety/test_fuzz.py tests/faces/test_openapi.py

bench: $(READY)  ## measure accuracy, speed and memory; writes bench-results/
	$(BIN)/python -m benchmarks

bench-accuracy: $(READY)  ## what options bring: words, hotwords, contexts, numbers, speakers, channels; half an hour
	$(BIN)/python -m benchmarks accuracy hotwords context itn
	$(BIN)/python -m benchmarks diarization --output bench-results/diarization

bench-tasks: $(READY)  ## the same for recordings of 12 hours, 20 to 40 minutes
	$(BIN)/python -m benchmarks tasks

bench-live: $(READY)  ## the same for speech while it is spoken, 15 to 20 minutes
	$(BIN)/python -m benchmarks live

bench-mixed: $(READY)  ## all kinds of work at once for half an hour, then three times what can be done
	$(BIN)/python -m benchmarks mixed

# The baseline: the authors' package, which fixes an older transformers and so cannot share an environment.
$(OFFICIAL)/.ready: Makefile
	test -x $(OFFICIAL)/bin/python || $(PYTHON) -m venv $(OFFICIAL)
	$(OFFICIAL)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 qwen-asr==0.0.6
	touch $@

bench-engines: $(ENGINES)/.ready $(OFFICIAL)/.ready  ## measure the engines that are extras
	$(ENGINES)/bin/python -m benchmarks.engines

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
	rm -rf $(VENV) $(ENGINES) $(OFFICIAL)
