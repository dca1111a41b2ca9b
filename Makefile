# Every chore by name.  Settings of the tools and versions are in setup.cfg.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
ARGS =
CODE = chatsdk tests docs setup.py
VERSIONS := $(shell sed -n 's/.* Python :: \(3\.[0-9][0-9]*\)$$/\1/p' setup.cfg)

SECONDS_TO_FUZZ = 60

.PHONY: help install fmt lint types test cover docs check dist clean demo matrix lowest suite \
	fuzz audit fast bench bench-quick interop
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do \
	    printf '  make %-11s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.cli ## talk to five services at once, all on this machine
	@$(BIN)/python -m chatsdk demo

install: $(VENV)/.test $(VENV)/.check $(VENV)/.docs ## .venv with all that development needs

fmt: $(VENV)/.check ## sort the imports
	$(BIN)/isort $(CODE)

lint: $(VENV)/.check ## flake8, and isort as a check
	$(BIN)/flake8 $(CODE)
	$(BIN)/isort --check --diff $(CODE)

types: $(VENV)/.check ## mypy --strict over the package
	$(BIN)/mypy

test: $(VENV)/.test ## the whole suite; ARGS="-k words" for some of it
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)

cover: test ## the suite, then its branch coverage
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report

docs: $(VENV)/.docs ## the pages, strictly, and their examples, into build/docs
	$(BIN)/sphinx-build -q -E -W -n --keep-going -d build/doctrees -b html docs build/docs
	$(BIN)/sphinx-build -q -E -W -n --keep-going -d build/doctrees -b doctest docs build/doctest

check: test lint types cover docs ## all that has to be green

matrix: ## the suite under each CPython of setup.cfg that is found here
	@table=; status=0; \
	for version in $(VERSIONS); do \
	    result='not found'; \
	    for python in "$$(command -v python$$version)" \
	            "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version*/bin/python; do \
	        "$$python" -c '$(IS_CPYTHON)' $$version 2>/dev/null || continue; \
	        echo "== CPython $$version: $$python"; \
	        result="passed     $$python"; \
	        $(MAKE) --no-print-directory suite VENV=.venv-$$version PYTHON="$$python" || \
	            { result="FAILED     $$python"; status=1; }; \
	        break; \
	    done; \
	    table="$$table  CPython $$version  $$result\n"; \
	done; \
	printf "\n$$table"; exit $$status

IS_CPYTHON = import sys; \
	sys.exit((sys.implementation.name, "%d.%d" % sys.version_info[:2]) != ("cpython", sys.argv[1]))

lowest: build/lowest.txt ## the suite with the lowest versions that setup.cfg allows
	@cat $<
	@$(MAKE) --no-print-directory suite VENV=.venv-lowest WITH='--constraint $<'

fast: ## the suite with chatsdk[fast]
	@$(MAKE) --no-print-directory .venv-fast/.fast suite VENV=.venv-fast

build/lowest.txt: setup.cfg
	@mkdir -p build
	@$(PYTHON) -c '$(BOUNDS)' > $@

BOUNDS = import configparser; config = configparser.ConfigParser(); config.read("setup.cfg"); \
	print(config["options"]["install_requires"].strip().replace(" >= ", "=="))

suite: $(VENV)/.test
	@$(BIN)/python -m pytest $(ARGS)

fuzz: $(VENV)/.fuzz ## fuzz the decoders by coverage; SECONDS_TO_FUZZ=60
	@mkdir -p build/corpus
	@$(BIN)/python tests/fuzz/decoders.py -max_total_time=$(SECONDS_TO_FUZZ) build/corpus \
	    tests/fuzz/corpus

bench: ## speed beside other packages; ARGS=--docs draws the figures of the docs
	@$(PYTHON) tests/benchmarks/run.py $(ARGS)

bench-quick: ## the same within two minutes, beside plain requests only
	@$(PYTHON) tests/benchmarks/run.py --quick $(ARGS)

# Each word is an environment .venv-interop-WORD, made with the packages of WITH_WORD (or the
# package WORD), in which tests/interop/test_WORD_*.py run ("-" in WORD is "_" in the name).
INTEROP = openai anthropic google-genai gigachat ollama huggingface-hub transformers litellm
WITH_litellm = 'litellm[proxy]'
# no SDK but a real model server; this version of torch has a build for CPUs
WITH_transformers = torch==2.13.0 'transformers[serving]'

interop: $(INTEROP:%=interop-%) ## the services' own SDKs against the simulator; also interop-SDK

interop-%:
	@VENV=.venv-interop-$*; $(MAKE) -s --no-print-directory $$VENV/.base VENV=$$VENV || exit 1; \
	if $(MAKE) -s --no-print-directory $$VENV/.sdk VENV=$$VENV SDK="$(or $(WITH_$*),$*)"; then \
	    $$VENV/bin/python -m pytest tests/interop/test_$(subst -,_,$*)_*.py $(ARGS); \
	else \
	    echo "SKIPPED interop-$*: $(or $(WITH_$*),$*) cannot be installed"; \
	fi

audit: $(VENV)/.audit ## known vulnerabilities of what the package needs
	@mkdir -p build
	@$(PYTHON) -c '$(BOUNDS)' | sed 's/==.*//' > build/base.txt
	@$(BIN)/pip-audit --progress-spinner=off --requirement build/base.txt

dist: $(VENV)/.dist ## a wheel, a source archive and a list of what they need, into dist
	@$(BIN)/python .ci/dist

clean: ## remove all that was made here, environments included
	rm -rf .venv .venv-* build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment says with stamps what is installed in it: the package alone, then each extra.
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --use-pep517 $(WITH)

$(BIN)/pip:
	@$(PYTHON) -c '$(IS_NEW_ENOUGH)'
	@$(PYTHON) -m venv $(VENV)

IS_NEW_ENOUGH = import sys; sys.version_info >= (3, 10) or sys.exit( \
	"chatsdk needs Python $(firstword $(VERSIONS)) or newer and $(PYTHON) is " + sys.version.split()[0] + \
	"; name another one: make PYTHON=python$(lastword $(VERSIONS))")

$(VENV)/.base: setup.cfg setup.py | $(BIN)/pip
	@echo "installing chatsdk into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.sdk: $(VENV)/.base
	@echo "installing $(SDK) into $(VENV)"
	@$(PIP) pytest trustme $(SDK)
	@touch $@

$(VENV)/.%: $(VENV)/.base
	@echo "installing chatsdk[$*] into $(VENV)"
	@$(PIP) --editable '.[$*]'
	@touch $@
