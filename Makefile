# Every target works in a fresh clone: it makes the virtual environment when there is none and installs what it needs,
# one stamp file an extra, so that a second call installs nothing until pyproject.toml changes.

PYTHON ?= python3
# Fixed, so that no call can point these targets, clean among them, at an environment of yours.
override VENV := .venv
BIN := $(VENV)/bin
BUILT := build/check
# Two worker processes with one thread each; idle OpenMP threads sleep, so that processes do not fight for cores.
WORKERS ?= 2
TESTFLAGS ?=
QUIET_OPENMP := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.DEFAULT_GOAL := help
.PHONY: help certify demo test check lint types imports docs bench wheel clean

help: ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	touch $@

# .venv/dev.installed, .venv/images.installed, ...: the package in editable form with that extra.
$(VENV)/%.installed: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[$*]'
	touch $@

demo: $(VENV)/images.installed ## Train on digits, sample, judge, and write runs/demo/report.html.
	$(BIN)/ornstein demo images

test: $(VENV)/dev.installed ## Run the test suite.
	$(QUIET_OPENMP) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTFLAGS)

check: lint types imports ## Lint, format, types and import rules.

lint: $(VENV)/dev.installed ## Check style and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.installed ## Check types on a built copy (checkers do not follow the package-dir mapping).
	rm -rf build
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --target $(BUILT) .
	cd $(BUILT) && MYPYPATH=. $(abspath $(BIN))/python -m mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p ornstein.core -p ornstein.domains

imports: $(VENV)/dev.installed ## Check who imports whom.
	$(BIN)/lint-imports --no-cache

certify: $(VENV)/images.installed ## Measure every method on solved problems; writes the record and the page of the docs.
	$(QUIET_OPENMP) $(BIN)/ornstein certify --output runs/certify
	cp runs/certify/certify.json benchmarks/results/
	cp runs/certify/certification.md docs/
	cp runs/certify/images/*.png docs/images/

docs: $(VENV)/docs.installed ## Build the documentation, running its examples; warnings are errors.
	rm -rf docs/_build docs/api/generated
	$(QUIET_OPENMP) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/bench.installed ## Run every benchmark against its peers (add FLAGS=--quick for a minute each).
	for script in benchmarks/[a-z]*.py; do case $$script in */common.py) ;; *) $(BIN)/python $$script $(FLAGS) || exit 1;; esac; done

wheel: $(VENV)/dev.installed ## Build dist/ornstein-*.whl.
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation

clean: ## Remove everything that a target made, the virtual environment included.
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/api/generated .pytest_cache .ruff_cache .mypy_cache \
		.hypothesis .import_linter_cache lightning_logs
	find core domains tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
