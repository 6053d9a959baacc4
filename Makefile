# Needs python3 >= 3.11 and make; the rest sets itself up.
.DEFAULT_GOAL := help
SHELL := /bin/bash

BIN := .venv/bin
STAMP := .venv/.stamp
CODE := ringmaster master aux tests examples $(wildcard bench load_test tooling/*.py)

TEST_PACKAGES := curl nginx redis-tools wrk prometheus etcd-server chromium
BENCH_PACKAGES := nginx redis-tools redis-server wrk etcd-server webdis

ARGS ?=
SEEDS ?= 100000

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: $(STAMP) ## create .venv with everything, or bring it up to date

$(STAMP): pyproject.toml requirements-dev.txt tooling/setup
	@tooling/setup
	@touch $@

compiled: setup ## compile the hot modules ahead of time for up, bench and test-compiled; needs a C compiler
	@tooling/debian-packages $$($(BIN)/python tooling/compile.py --missing)
	@$(BIN)/python tooling/compile.py

wheel: compiled ## build a wheel of services, library and command, compiled for this Python and machine, into dist/
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m hatchling build --target wheel --directory dist

up: setup ## run a local cluster; options in ARGS="--aux 5"
	@tooling/debian-packages nginx
	@PYTHONPATH="$$($(BIN)/python tooling/compile.py --path)" $(BIN)/ringmaster up $(ARGS)

test: setup ## run every test: 12 minutes are the aim, 20 the bound; pytest options in ARGS
	@tooling/debian-packages $(TEST_PACKAGES)
	@tooling/run-tests $(ARGS)

test-compiled: compiled ## run the tests of the compiled modules against them
	@tooling/debian-packages $(TEST_PACKAGES)
	@tooling/run-tests --compiled $(ARGS)

test-fast: setup ## run the unit tests, within a minute; without those marked thorough
	@$(BIN)/python -m pytest -n 2 -m 'not slow and not thorough' tests/unit $(ARGS)

test-slow: setup ## run the tests that take minutes
	@tooling/debian-packages $(TEST_PACKAGES)
	@$(BIN)/python -m pytest -m slow --timeout=1800 $(ARGS)

test-peers: setup ## run test suites of other projects against a node; downloads them
	@$(BIN)/python -m tests.peers $(ARGS)

test-compose: setup ## build, start, scale and break the compose cluster (needs Docker)
	@$(BIN)/python -m pytest -m compose --timeout=1800 tests/compose $(ARGS)

fuzz: setup ## look for inputs that break a parser, guided by coverage; ARGS="--seconds 60 --target requests"
	@$(BIN)/python -m tests.fuzz $(ARGS)

docs: setup ## build the documentation as a site, build/site/index.html, without network
	@$(BIN)/python tooling/docs_site.py

sbom: setup ## write build/sbom.json: what an installed Ringmaster consists of, in CycloneDX's format
	@$(BIN)/python tooling/sbom.py

audit: setup ## look up known vulnerabilities of the packages that run; needs a registry of advisories
	@$(BIN)/python tooling/audit.py $(ARGS)

check: setup ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

bench: compiled ## measure against other systems, side by side
	@tooling/debian-packages $(BENCH_PACKAGES)
	@$(BIN)/python -m bench $(ARGS)

test-nightly: setup ## run the tests that take minutes, and simulate 100,000 schedules; takes hours
	@failed=0; $(MAKE) test-slow || failed=1; $(MAKE) sim SEEDS=100000 || failed=1; exit $$failed

sim: setup ## simulate SEEDS=100000 schedules on all cores, those of today or from RINGMASTER_SIM_START on
	@RINGMASTER_SIM_SEEDS=$(SEEDS) $(BIN)/python -m pytest -n auto --timeout=0 tests/sim $(ARGS)

lock: setup ## resolve the requirements anew; ARGS=--upgrade takes newer versions
	@tooling/lock $(ARGS)

clean: ## remove what these targets made; a cluster's data stays
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup compiled wheel up test test-compiled test-fast test-slow test-nightly test-peers test-compose fuzz sbom audit check docs format bench sim lock clean
