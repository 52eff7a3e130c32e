.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PYTEST := $(BIN)/python -m pytest
# A stack starts half a dozen processes. Where this is set, each compiles all its modules: 2.3 s of CPU of 4.1.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements-dev.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Headrace needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 setup"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock requirements-bootstrap.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.fetched: $(VENV)/.ready headrace/local/artefacts.lock.toml
	$(BIN)/python -m headrace.local.fetch
	@touch $@

.PHONY: setup
setup: $(VENV)/.fetched ## make the virtual environment and fetch the parts of the embedded stack

.PHONY: up
up: setup ## start the embedded stack
	$(BIN)/headrace up

$(VENV)/.llm: $(VENV)/.ready requirements-llm.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-llm.lock
	@touch $@

.PHONY: llm
llm: setup $(VENV)/.llm ## start the embedded stack with a small language model, installing its server
	$(BIN)/headrace up --llm

.PHONY: down
down: ## stop the embedded stack; its data stays
	$(BIN)/headrace down

.PHONY: demo
demo: setup ## start a stack, ingest docs/, ask three questions, check their citations, stop
	$(BIN)/python -m headrace.demo

.PHONY: test
test: setup ## unit, contract, integration and end-to-end tests, on the embedded parts
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -m "not faults and not long"

.PHONY: test-containers
test-containers: setup ## contract and integration tests on containers; where no Docker engine answers, says so and fails
	HEADRACE_TEST_PARTS=containers $(PYTEST) -m "integration and not faults and not long" \
		tests/backbone tests/contract tests/gateway tests/headrace/local/test_prepare.py tests/schemas tests/streams

.PHONY: check
check: $(VENV)/.ready ## formatting, lint, types, import rules, generated files, compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m headrace.generated --check
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

.PHONY: fmt
fmt: $(VENV)/.ready ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: schemas
schemas: $(VENV)/.ready ## write the generated files: JSON Schemas, lists of topics, metrics, endpoints, settings
	$(BIN)/python -m headrace.generated

.PHONY: faults
faults: setup ## kill workers under load and judge the history (short)
	$(PYTEST) -m "faults and not long" tests/faults tests/gateway

.PHONY: faults-long
faults-long: setup ## the same with every fault there is (long)
	$(PYTEST) -m faults tests/faults tests/gateway tests/streams

.PHONY: soak
soak: setup ## an hour of moderate load with kills: nothing is lost, and nothing grows
	$(BIN)/python -m tests.faults.soak --minutes 60

.PHONY: bench
bench: setup ## measure, and print the table
	$(BIN)/python -m tests.bench

.PHONY: lock
lock: ## resolve the dependencies again
	$(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate --extra dev pyproject.toml -o requirements-dev.lock
	grep -o 'xllamacpp==[^"]*' pyproject.toml | $(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate - -o requirements-llm.lock
	echo uv | $(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate - -o requirements-bootstrap.lock
