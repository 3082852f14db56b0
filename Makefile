# The doors of this repository. Each works from a clean clone with Python 3.11 to 3.13, make and git, and nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help dev test test-browser fuzz chaos bench bench-engine lint format docs lock image hooks clean

VENV := .venv
PY := $(VENV)/bin/python
# The servers for dev and test have no wheels for Python 3.14 yet; PYTHON=... takes any from 3.11 on.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11)
NEWEST := $(if $(PYTHON),99,13)
# Byte-compiling a quarter of a gigabyte takes five seconds of the first start, most of it for code that never runs.
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-compile
LOCK = $(PY) -m uv pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
	--prerelease if-necessary-or-explicit --generate-hashes --no-emit-index-url --no-header $(ARGS)
IMAGE ?= arqive
ARGS ?=
SEED ?=

# Programs in an environment name the directory it was made in: a checkout that was moved gets a new one.
ifneq ($(wildcard $(VENV)/.place),)
ifneq ($(shell cat $(VENV)/.place),$(CURDIR))
$(shell rm -rf $(VENV))
endif
endif

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(VENV)/.run ## serve web and worker on port 4000 with local servers until Ctrl-C (PORT=4100 changes the port)
	@$(PY) -m app dev

test: $(VENV)/.dev ## run every test that needs no browser (ARGS="-k name" narrows it)
	@$(PY) -m pytest -m "not browser and not chaos and not fuzz" -n auto --dist worksteal $(ARGS)

fuzz: $(VENV)/.dev ## send what the OpenAPI document allows and what it does not, and hold the answers against it
	@$(PY) -m pytest -s -m fuzz -o faulthandler_timeout=1800 $(ARGS) tests/fuzz

test-browser: $(VENV)/.dev ## run the tests that need a Chromium on PATH
	@$(PY) -m pytest -m browser $(ARGS)

chaos: $(VENV)/.dev ## hurt processes and servers one at a time, then all at once (SEED=4711 repeats a storm)
	@STORM_SEED=$(SEED) $(PY) -m pytest -o faulthandler_timeout=1800 $(ARGS) tests/chaos

bench: $(VENV)/.dev ## measure the service beside its peers, write docs/performance.md (28 minutes; ARGS=--quick: 3)
	@$(PY) -m bench.service $(ARGS)

bench-engine: $(VENV)/.dev ## measure the engine beside arq, write docs/performance-engine.md (ARGS=--quick: a minute)
	@$(PY) -m bench.engine $(ARGS)

lint: $(VENV)/.dev ## check style, types, the direction of imports and the size limits
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m pytest -q -p no:randomly tests/architecture/test_limits.py

format: $(VENV)/.dev ## rewrite the code in the house's style
	@$(PY) -m ruff check --quiet --fix-only .
	@$(PY) -m ruff format --quiet .

docs: $(VENV)/.dev ## write the generated pages of docs/ anew
	@$(PY) docs/generate.py

lock: $(VENV)/.dev ## write requirements/ anew from pyproject.toml (ARGS=--upgrade takes the newest versions)
	@$(LOCK) --group build --extra embedded --extra tracing --extra dev --output-file requirements/dev.txt
	@$(LOCK) --group build --extra embedded --constraints requirements/dev.txt --output-file requirements/embedded.txt
	@$(LOCK) --extra tracing --constraints requirements/dev.txt --output-file requirements/run.txt
	@$(LOCK:pyproject.toml=--group build) --constraints requirements/dev.txt --output-file requirements/build.txt

image: ## build the container image (needs Docker; IMAGE=name:tag names it)
	docker build --tag $(IMAGE) .

hooks: $(VENV)/.dev ## run `make lint` before each commit from now on
	@$(PY) -m pre_commit install

clean: ## remove the environment, caches and builds; the tasks in .arqive/ stay
	@rm -rf $(VENV) .bench bench/node/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A dangling link counts as missing, so an environment whose Python went away is made anew.
$(PY):
	@rm -rf $(VENV)
	@for python in $(CANDIDATES); do \
		if $$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(NEWEST)))' \
			>/dev/null 2>&1; then \
			echo "Making $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV) && echo "$(CURDIR)" >$(VENV)/.place && exit 0; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "Arqive needs Python 3.11, 3.12 or 3.13 with its venv module; found none of: $(CANDIDATES)." >&2; \
	echo "Name one with PYTHON=/path/to/python3 (on Debian and Ubuntu, install python3-venv too)." >&2; \
	exit 1

$(VENV)/.run: requirements/embedded.txt pyproject.toml | $(PY)
	@echo "Installing Arqive and its local servers into $(VENV) (some 20 seconds, once)"
	@$(INSTALL) --require-hashes -r requirements/embedded.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(PY)
	@echo "Installing Arqive and its development tools into $(VENV) (some 40 seconds, once)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.run $@
