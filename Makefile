# Every target is one idea; `make help` prints them. ROUNDS and ARGS are passed on where a target says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
UV := $(BIN)/uv
# What is imported is compiled once, not by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE
MEMBERS := . $(sort $(dir $(wildcard plugins/*/pyproject.toml)))
# $(call part,name,command): runs the command, says how long it took, and keeps its exit status.
part = TIMEFORMAT="    %1R s  $(1)"; time $(2)

.PHONY: help install demo test rules docs e2e fuzz crash bench wheels wheels-check lock clean

help:  ## what there is
	@sed -nE 's/^([a-z0-9-]+):.*  ## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r t h; do printf 'make %-14s %s\n' "$$t" "$$h"; done

install: $(STAMP)  ## .venv with everything, from requirements.lock

$(STAMP): requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS:/=))
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS:%/=./%))
	@touch $@

demo: install  ## a small shop from export to mail, on this machine only
	@$(BIN)/crmkit demo

test: install  ## style, types, rooms and tests, with the time each part takes
	@$(call part,ruff check,$(BIN)/ruff check --quiet .)
	@$(call part,ruff format,$(BIN)/ruff format --quiet --check .)
	@$(call part,mypy --strict,$(BIN)/mypy --no-error-summary)
	@$(call part,import contracts,$(BIN)/lint-imports --no-logo --no-cache)
	@$(call part,pytest,$(BIN)/python -m pytest -q -m "not bench and not wheels and not e2e and not fuzz and not docs" --durations=10 $(ARGS))

rules: install  ## the rules behind the promises, each with the tests that show it
	@$(BIN)/python tests/rules.py

docs: install  ## the pages as a site in build/docs, a link that leads nowhere fails; the tutorials followed command by command
	@$(BIN)/python docs/reference.py --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python -m pytest tests/docs -q -m docs $(ARGS)

e2e: install  ## pages in a real browser (apt-get install chromium); gateways against vendors' own API documents, from npm; whole tests of broken plugins
	@$(BIN)/python -m pytest -q -n 0 -m e2e $(ARGS)

fuzz: install  ## doors, parsers, files, pages and forms with what nobody expects, EXAMPLES=400 of each
	@CRMKIT_FUZZ_EXAMPLES=$(or $(EXAMPLES),400) $(BIN)/python -m pytest tests/fuzz -q -n 0 -m fuzz $(ARGS)

crash: install  ## kill -9 in sync and dispatch, ROUNDS=50 times
	@CRMKIT_CRASH_ROUNDS=$(or $(ROUNDS),50) $(BIN)/python -m pytest tests/crash -q -m crash $(ARGS)

bench: install  ## the benchmarks, peers and limits side by side
	@$(BIN)/python -m benchmarks $(ARGS)

wheels: install  ## the wheels of all distributions, in dist/
	@rm -rf dist && $(UV) build --quiet --wheel --all-packages --no-build-isolation --python $(BIN)/python --out-dir dist && ls dist/*.whl

wheels-check: wheels  ## the wheels work in a bare environment, away from the repository
	@$(BIN)/python -m pytest tests/test_wheels.py tests/test_deploy.py -q -n 0 -m wheels $(ARGS)

lock: install  ## requirements.lock anew, pins kept; ARGS=--upgrade for the latest
	@$(UV) pip compile --quiet pyproject.toml $(wildcard plugins/*/pyproject.toml) --all-extras --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(foreach m,$(MEMBERS),--no-emit-package $(patsubst crmkit-.,crmkit,crmkit-$(notdir $(m:/=)))) $(ARGS) -o requirements.lock

clean:  ## what was built or cached; .venv too
	@rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis && find . -name __pycache__ -type d -prune -exec rm -rf {} +
