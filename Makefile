# make study        the whole starter study, from nothing
# make test         checks and tests
# make quick        the fast tests: no whole studies, no network, no browser; a minute
# make soak         kills a study, its disk and its power at many moments, flips bits, reads thousands of broken files
# JOBS=2            processes that run tests side by side, on one thread each
# TORCH=cuda        uses the newest torch with its CUDA libraries instead of the tested CPU version

PYTHON ?= python3
VENV ?= .venv
TORCH ?= cpu
JOBS ?= 2

ifeq ($(TORCH),cpu)
LOCKED := yes
else ifeq ($(TORCH),cuda)
LOCKED :=
else
$(error TORCH is '$(TORCH)'; expected cpu or cuda)
endif

BIN := $(VENV)/bin
TOOLS := build/tools
EXTRAS := .[test,docs,baselines]
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_PIN := $(shell grep '^torch==' constraints.txt)
STAMP := $(VENV)/.installed-$(TORCH)
# a file's tests stay in one process: they share what its fixtures made
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help env study test quick soak check style docs lock audit sbom clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON) VENV=$(VENV) TORCH=$(TORCH) (cpu or cuda) JOBS=$(JOBS)"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

env: $(STAMP) ## create the virtual environment, again only when the packages it holds have changed

# pip 25.1 and later resume a broken download; older ones start a 200 MB wheel again. With TORCH=cpu every file is checked
# against the hashes of the lock. torch, whose build depends on the index, comes from PyTorch's index of CPU builds; where
# that one is out of reach (5 s, one try), the last install takes it from the machine's own. One that is there stays.
$(STAMP): pyproject.toml constraints.txt requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
ifdef LOCKED
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --no-deps --index-url $(CPU_INDEX) --timeout 5 --retries 0 '$(TORCH_PIN)' 2>/dev/null \
	  || echo '$(CPU_INDEX) gave no $(TORCH_PIN); it comes from the ordinary index, whose build may bring 3 GB of CUDA libraries'
	$(BIN)/python -m pip install --no-build-isolation -c constraints.txt -e '$(EXTRAS)'
else
	$(BIN)/python -m pip install -e '$(EXTRAS)'
endif
	rm -f $(VENV)/.installed-*
	touch $@

# recordings are fetched while packages are installed; filelock is all that this needs
study: $(BIN)/python ## weights, recordings and the starter study
	sed -n '/^filelock==/,/[^\\]$$/p' requirements.lock > $(VENV)/filelock.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/filelock.lock
	PYTHONPATH=. $(BIN)/python tools/fetch_ahead.py & $(MAKE) --no-print-directory env; made=$$?; wait; exit $$made
	$(BIN)/listenwell study configs/starter.yaml

test: env style docs ## everything that must hold: style, types, documentation, all tests
	$(PYTEST)

quick: env ## the fast tests: no whole studies, no network, no browser
	$(PYTEST) -q -m 'not slow and not network and not browser'

soak: env ## many kills, flipped bits, broken files, failing disks and power cuts, half an hour (make test: a few of each)
	$(BIN)/python benchmarks/soak.py

check: env style docs ## style, types, documentation, import rows, README commands and shipped configs
	$(PYTEST) -q tests/test_import_rows.py tests/test_readme.py tests/test_shipped_configs.py

style: env ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# not --quiet: it hides the warnings from --strict too, which then counts none
docs: env ## the documentation site, in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(TOOLS): Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet 'uv>=0.9' 'pip-audit>=2.9' 'cyclonedx-bom>=7'
	touch $@

lock: $(TOOLS) ## write requirements.lock again: the newest versions that pyproject.toml and constraints.txt allow
	$(TOOLS)/bin/python tools/write_lock.py

audit: $(TOOLS) ## look the locked packages up among the known vulnerabilities (asks pypi.org)
	$(TOOLS)/bin/pip-audit --disable-pip --strict -r requirements.lock

sbom: $(TOOLS) ## the locked packages as a CycloneDX list, in dist/sbom.cdx.json
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements requirements.lock -o dist/sbom.cdx.json

clean: ## remove the environment and the tools' caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
