# Every target makes .venv and installs what it needs, at the versions in constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
BIN := .venv/bin
# An index of CPU builds of torch, where the default one only has CUDA builds (README, Install).
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
       $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help demo test check docs bench torture audit clean

help:
	@echo "make demo   one cycle of three rounds over the embedded glyphs, with a report page"
	@echo "make test   all tests"
	@echo "make check  format, lint, types, layers, and the pages with their links"
	@echo "make docs   the pages as a site in site/, without network"
	@echo "make bench  the benchmarks behind every number in README and docs"
	@echo "make torture  kills, damage, full disks, fuzzing, a schedule left alone (half an hour)"
	@echo "make audit  known vulnerabilities of the pinned dependencies"
	@echo "make clean  remove .venv and the demo's run"

demo: .venv/$(GPU)
	$(BIN)/remine run

# A process a core, each with one thread: several threads in each would wait for one another.
test: .venv/dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Strict: a broken link or anchor is a failure (with --quiet it would not be: no warning is counted).
# The variable silences an advertisement.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/variable_names.py data index mining train flows src benchmarks robustness tools
	$(MKDOCS) build --strict --site-dir .remine-site

docs: .venv/dev
	$(MKDOCS) build --strict
	@echo "open site/index.html; for its search: $(BIN)/python -m http.server --directory site"

bench: .venv/bench
	$(BIN)/python -m benchmarks

torture: .venv/dev
	$(BIN)/python -m robustness

# Strict: where the advisory service knows no package (a mirror), that is a failure, not a pass.
AUDIT := pip-audit --strict -r constraints.txt --no-deps --disable-pip
audit: .venv/dev
	$(PIP) pip-audit
	$(BIN)/$(AUDIT) || \
	  { echo "audit: failed, or no advisory service; elsewhere: $(AUDIT)"; exit 1; }

clean:
	rm -rf .venv runs

.venv/$(GPU): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (a minute or two) ..."
	$(PIP) -e ".[$(GPU)]"
	@touch $@

.venv/dev: .venv/$(GPU)
	$(PIP) -e ".[$(GPU),dev,docs]"
	@touch $@

.venv/bench: .venv/dev
	$(PIP) -e ".[$(GPU),dev,docs,bench]"
	@touch $@
