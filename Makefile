# Needs python3 (3.11 or later), pip and make; everything else is set up in .venv, from a lock with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := $(wildcard services shared redphone bench tests)
WORKERS ?= 2
# What the tests of a file share, a running system for example, is made once for them.
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Byte code halves the time in which a process starts, and a test run starts hundreds.
unexport PYTHONDONTWRITEBYTECODE
PIP_QUIETLY := --quiet --disable-pip-version-check --no-input --root-user-action=ignore

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all search check bench up messages lock clean

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(READY) ## Make a ready .venv (every other target does so by itself)

demo: $(READY) ## Play a real crisis on a throw-away directory; DEMO="--crisis derna" plays another
	$(BIN)/redphone demo $(DEMO)

up: $(READY) ## Run the whole system on http://127.0.0.1:8000, with the partners of network/rdn.toml, data in ./.redphone
	$(BIN)/redphone up --network network/rdn.toml --development $(UP)

test: $(READY) ## Run every test that needs nothing but Python; what is skipped is counted and named
	$(PYTEST) $(TESTS)

test-all: $(READY) ## Install what the optional tests need (Debian packages, as root), and run every test
	@missing=""; \
	command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$$missing nginx"; \
	command -v prometheus-alertmanager >/dev/null 2>&1 || missing="$$missing prometheus-alertmanager"; \
	command -v chromium >/dev/null 2>&1 || missing="$$missing chromium fonts-noto-core"; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	else \
	  echo "Not installed:$$missing. Tests that need them are skipped; run as root on Debian, or install them yourself."; \
	fi
	REDPHONE_TEST_ALL=1 $(PYTEST) $(TESTS)

search: $(READY) ## Look for counterexamples that the everyday run of the property tests does not draw
	$(BIN)/pytest -n $(WORKERS) --hypothesis-profile search tests/unit

check: $(READY) ## Check format, lint, types and import rules
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

bench: $(READY) ## Run the benchmarks and print their JSON
	$(BIN)/python -m bench console --json
	$(BIN)/python -m bench fanout --partners 200 --json
	$(BIN)/python -m bench people --json
	$(BIN)/python -m bench roster --json
	$(BIN)/python -m bench sustained --json
	$(BIN)/python -m bench timers --json

messages: $(READY) ## Bring the console's translations up to date with its texts; what is new is left empty
	cd services/console && ../../$(BIN)/pybabel -q extract -F locale/babel.cfg -k n_:1,2 -k _ --no-location --sort-output \
	  --omit-header -o locale/console.pot .
	for language in fr es it pt de ar; do \
	  file=services/console/locale/$$language.po; \
	  if [ -f $$file ]; then $(BIN)/pybabel -q update --omit-header --no-fuzzy-matching --ignore-obsolete -l $$language -i services/console/locale/console.pot -o $$file; \
	  else $(BIN)/pybabel -q init -l $$language -i services/console/locale/console.pot -o $$file; fi; \
	done; rm services/console/locale/console.pot

lock: ## Bring both locks up to date with pyproject.toml (needs uv); UPGRADE=--upgrade takes newer releases
	@command -v uv >/dev/null || { echo "make lock needs uv: install it with pip install uv." >&2; exit 1; }
	uv pip compile pyproject.toml $(LOCK_OPTIONS) -o requirements.lock
	uv pip compile pyproject.toml --group dev $(LOCK_OPTIONS) -o requirements-dev.lock

# No download address and no path of the machine that locks gets into the files.
LOCK_OPTIONS = --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
               --custom-compile-command "make lock" $(UPGRADE)

clean: ## Remove .venv and caches; the data in ./.redphone stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 comes without ensurepip: there the machine's own pip fills the environment from outside. Elsewhere the
# environment brings its own.
$(READY): requirements-dev.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "Red Phone needs Python 3.11 or later: install python3, or name one with make PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Red Phone needs Python 3.11 or later, this is $$($(PYTHON) -V): name a newer one with make PYTHON=/path/to/python3." >&2; exit 1; }
	@rm -f $(READY)
	@if $(PYTHON) -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3))' 2>/dev/null; then \
	  set -e; \
	  $(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --without-pip --clear $(VENV); \
	  pip="$(PYTHON) -m pip --python $(BIN)/python"; \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  set -e; \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV); \
	  pip="$(BIN)/python -m pip"; \
	else \
	  echo "Red Phone needs pip 22.3 or later: install it (on Debian: apt-get install python3-pip)." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) …"; \
	$$pip install $(PIP_QUIETLY) --require-hashes -r requirements-dev.lock; \
	$$pip install $(PIP_QUIETLY) --no-deps --no-build-isolation -e .; \
	$(BIN)/python -m compileall -q $(VENV)/lib || true
	@touch $(READY)
