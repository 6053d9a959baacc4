.DEFAULT_GOAL := help
SHELL := /bin/bash

STAMP := .venv/.stamp

.PHONY: setup
setup: $(STAMP)

$(STAMP): pyproject.toml requirements-dev.txt tooling/setup
	tooling/setup
	@touch $@
