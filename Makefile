# What people and CI run. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
SOURCES := agent api tests bench scripts

.PHONY: help venv engine demo demo-stop test test-jenkins test-quick check format bench image lock docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: ## Install what the project needs into .venv
	@scripts/venv

engine: ## Use the machine's Docker Engine, or bring a private one
	@scripts/engine up

demo: venv ## Run a real build in a sibling container, from nothing
	@scripts/demo

demo-stop: ## End all that the demo started
	@scripts/demo-stop

test: venv ## Run all tests, on a real Docker Engine
	@scripts/test

test-jenkins: venv ## Run the contract and end-to-end tests on the controller that SIBLING_TEST_JENKINS_URL, _USER and _TOKEN name
	@scripts/test tests/contracts/test_controller.py tests/e2e/test_controller.py

test-quick: venv ## Run the tests that need no engine
	@$(BIN)/pytest -q tests/agent tests/api -m "not engine"

check: venv ## Lint, formatting, types, import rules, generated docs
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/settings-docs --check

format: venv ## Format the code, and mend what the linter can
	@$(BIN)/ruff check --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

docs: venv ## Make docs/settings.md anew
	@$(BIN)/python scripts/settings-docs

bench: venv ## Measure against the floor in the same run
	@scripts/bench

image: ## Build Sibling's own image, on a base made without a registry if need be
	@scripts/image

lock: venv ## Write the lock files anew from pyproject.toml
	@scripts/lock

clean: demo-stop ## Remove what was made here
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
