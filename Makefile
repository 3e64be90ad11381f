# `make demo` and `make test` do everything, set-up included. A machine needs Python 3.11 or newer (with pip and venv), make
# and git. Another Python than the first one found: `make PYTHON=/path/to/python3 demo`.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHONS := $(PYTHON) python3 python3.13 python3.12 python3.11
SUITS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
NEEDS := treering needs Python 3.11 or newer, with pip and venv; none of these is one: $(PYTHONS)

BENCHMARKS := bench-train bench-memory bench-order bench-neox-order bench-tokens bench-growth bench-checkpoints bench-contamination

.PHONY: demo test docs lint clean bench-plots $(BENCHMARKS)
.DELETE_ON_ERROR:

# Each stamp is newer than what it was made from only after the installation has ended well, so a repeated call is instant.
demo: $(VENV)/.installed
	$(BIN)/treering run recipes/quickstart.yaml

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

# Each prints its table and adds it to benchmarks/results/.
$(BENCHMARKS): bench-%: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/$(subst -,_,$(subst train,training,$*)).py

bench-plots: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python docs/generate.py

$(VENV)/.created:
	@for python in $(PYTHONS); do \
	  if $$python -c '$(SUITS)' 2>/dev/null; then echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV) && touch $@; exit; fi; \
	done; echo '$(NEEDS)' >&2; exit 1

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt benchmarks/requirements.txt | $(VENV)/.created
	$(PIP) install --constraint constraints.txt --editable .
	$(PIP) install --no-deps --requirement benchmarks/requirements.txt
	@touch $(VENV)/.installed $@

# Leaves runs/ alone: it may hold days of work.
clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
