# `make demo` wants Python 3.10 or newer with venv, and a package index that pip can reach; `make help` lists the rest.
PYTHON ?= python3
# PyTorch goes in first and by pip, because its CPU build and its CUDA build bear the same name. TORCH_INDEX, where
# given, is the index of CPU wheels that PyTorch's own installation page names; without it pip's settings decide.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
# Holds CLIP's vocabulary (MIT), which the tokenizer's tests read. Its dependencies are not wanted.
CLIP_VOCABULARY ?= open_clip_torch==3.3.0
# More for pytest, as in: make test ARGS="-k tokenizer"
ARGS ?=
# Tests side by side, as in: make test WORKERS=2
WORKERS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
DEMO_ENV := .venv-demo
DEV_ENV := .venv
# Both environments are editable installs: a change in the tree needs no second installation, a changed pyproject does.
DEMO_READY := $(DEMO_ENV)/ready-$(VERSION)
DEV_READY := $(DEV_ENV)/ready-$(VERSION)
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint format bench bench-demo bench-int8 full-size clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_READY) ## set up the runtime alone, index the demo's pictures, answer spoken queries, draw a contact sheet
	@$(DEMO_ENV)/bin/python demo/run_demo.py

test: $(DEV_READY) ## set up the development environment (CPU torch first) and run the tests
	$(DEV_ENV)/bin/python -m pytest $(if $(WORKERS),-n $(WORKERS)) $(ARGS)

lint: $(DEV_READY) ## ruff (lint and format) and mypy
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/ruff format --check .
	$(DEV_ENV)/bin/mypy

format: $(DEV_READY) ## let ruff mend what it can
	$(DEV_ENV)/bin/ruff check --fix .
	$(DEV_ENV)/bin/ruff format .

bench: $(DEV_READY) ## time full-size encoders, search and whole queries beside PyTorch and others: half an hour with calibration
	$(DEV_ENV)/bin/sayclip bench --full-size

bench-demo: $(DEV_READY) ## measure the figures that the README quotes
	$(DEV_ENV)/bin/sayclip bench demo

bench-int8: $(DEV_READY) ## export, calibrate and measure full-size encoders of hard random weights: about half an hour
	$(DEV_ENV)/bin/sayclip bench int8

full-size: $(DEV_READY) ## export, check and build full-size models of random weights: minutes each, up to 8 GB of memory
	$(DEV_ENV)/bin/sayclip export full-size

clean: ## remove environments, caches and what the demo wrote
	rm -rf $(DEMO_ENV) $(DEV_ENV) demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf build runtime/build demo/build *.egg-info */*.egg-info
	find runtime export calibration training benchmarks demo tests -name __pycache__ -type d -prune -exec rm -rf {} +

# $(1): folder of the environment
define new_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "sayclip needs Python 3.10 or newer and $(PYTHON) is '$(VERSION)': name another, as in 'make $@ PYTHON=python3.12'" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu 'apt-get install python3-venv'" >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(1)
endef

$(DEMO_READY): runtime/pyproject.toml demo/pyproject.toml
	@echo "setting up the runtime in $(DEMO_ENV) (Python $(VERSION), about 60 MB to fetch)"
	$(call new_environment,$(DEMO_ENV))
	@$(DEMO_ENV)/bin/python $(PIP) -e './runtime[cpu]' -e ./demo
	@touch $@

$(DEV_READY): pyproject.toml runtime/pyproject.toml demo/pyproject.toml
	@echo "setting up the development environment in $(DEV_ENV) (Python $(VERSION), with $(TORCH))"
	$(call new_environment,$(DEV_ENV))
	@$(DEV_ENV)/bin/python $(PIP) --upgrade pip
	$(DEV_ENV)/bin/python $(PIP) $(addprefix --index-url ,$(TORCH_INDEX)) '$(TORCH)'
	$(DEV_ENV)/bin/python $(PIP) -e './runtime[cpu]' -e ./demo -e '.[dev]'
	$(DEV_ENV)/bin/python $(PIP) --no-deps '$(CLIP_VOCABULARY)'
	@touch $@
