# `make` lists what there is.  The first use of any target makes .venv, from the lock (requirements.txt).

PYTHON ?= python3
PRESET ?= $(or $(PAPERLIB_PRESET),desk)
ARGS ?=
MINUTES ?= 15
WORKERS ?= auto
BIN := .venv/bin
LOCKED := training book watch dev workflow browser
INSTALLED := .venv/.installed
# Compiled modules are kept even where an image says otherwise, as many do: without them `import torch` takes twice as
# long, and the tests start some 170 processes that import it.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run paper gpu evidence compatibility test torture lint book browser pdf notebooks bench lock clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(INSTALLED)  ## train one network and leave an executed notebook (PRESET=smoke, ARGS="-p depth 20")
	$(BIN)/python -m paperlib run -p preset $(PRESET) $(ARGS)

paper: $(INSTALLED)  ## make Section 4's runs, all of them (PRESET=smoke, desk or paper; ARGS="--workers 1")
	$(BIN)/python -m paperlib sweep workflow/config/$(PRESET).yaml $(ARGS)

gpu: $(INSTALLED)  ## test and time a GPU, then make channel grids and the paper's runs for so long (MINUTES=15)
	$(BIN)/python workflow/gpu.py --minutes $(MINUTES) $(ARGS)

evidence: $(INSTALLED)  ## measure again what needs no training; status 1 if an outcome changes (ARGS="T1 C1")
	$(BIN)/python -m paperlib evidence $(ARGS)

compatibility: $(INSTALLED)  ## measure other people's networks, half an hour (needs timm, transformers)
	PYTHONPATH=tests $(BIN)/python -m foreign.make

test: $(INSTALLED)  ## run every test, docstring and notebook, on all cores (WORKERS=2: in two processes)
	$(BIN)/python -m pytest --nbval -n $(WORKERS) --dist loadfile --no-loadscope-reorder

torture: $(INSTALLED)  ## try the tests of faults at length and store what came of it (about an hour)
	PAPERLIB_TORTURE=results/torture.json $(BIN)/python -m pytest tests/faults tests/workflow/test_workflow.py $(ARGS)

lint: $(INSTALLED)  ## check style, types and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find paperlib -name '*.py' -exec $(BIN)/python -m numpydoc lint {} +
	$(BIN)/python tools/tracked_files.py sizes
	$(BIN)/python tools/tracked_files.py paths

book: $(INSTALLED)  ## build the book into _build/html, warnings being errors
	rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build . -n -W --keep-going
	$(BIN)/python tools/check_book.py _build/html

browser: book  ## build the book and try it in Chromium (needs chromium, npm)
	PAPERLIB_BROWSER=1 $(BIN)/python -m pytest tests/browser

pdf: $(INSTALLED)  ## print the built book into _build/book.pdf (needs Chromium or Chrome)
	$(BIN)/python tools/make_pdf.py _build/html _build/book.pdf

notebooks: $(INSTALLED)  ## write the notebooks from their sources, execute them and store what they take
	$(BIN)/python tools/notebook_pairs.py update
	$(BIN)/python tools/execute_notebooks.py

bench: $(INSTALLED)  ## run the benchmarks
	for b in benchmarks/*.py; do $(BIN)/python "$$b" || exit; done

lock:  ## renew the lock from pyproject.toml (needs uv: pip install uv)
	uv pip compile --generate-hashes --universal --python-version 3.10 $(LOCKED:%=--extra %) --no-header --no-annotate \
		pyproject.toml -o requirements.txt
	@echo 'now: $(BIN)/python tools/review_dependencies.py, which writes DEPENDENCIES.md anew'

clean:  ## remove what runs, tests and builds leave
	rm -rf out runs _build .snakemake .pytest_cache .ruff_cache .mypy_cache

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed, this is " \
		+ sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-compile -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
