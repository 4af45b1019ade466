# Two commands: `make run` trains one network and leaves an executed notebook; `make test` runs every test.
# Each makes .venv first, from the lock (requirements.txt).  Others: book, lint, notebooks, bench, lock, clean.

PYTHON ?= python3
PRESET ?= $(or $(PAPERLIB_PRESET),desk)
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: run test book lint notebooks bench lock clean
.DELETE_ON_ERROR:

run: $(INSTALLED)
	$(BIN)/python -m paperlib run -p preset $(PRESET) $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest --nbval

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

book: $(INSTALLED)
	rm -rf _build/html
	$(BIN)/jupyter-book build . -n -W --keep-going
	$(BIN)/python tests/check_book.py _build/html

# One way only: the .py is the source, the .ipynb keeps its outputs until the cells are executed again.
notebooks: $(INSTALLED)
	for n in notebooks/*.py; do $(BIN)/jupytext --to ipynb --update "$$n" || exit; done
	PAPERLIB_PRESET=desk PAPERLIB_RUNS="$(CURDIR)/results" $(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

bench: $(INSTALLED)
	for b in benchmarks/*.py; do $(BIN)/python "$$b" || exit; done

# Needs uv (pip install uv).
lock:
	uv pip compile --universal --python-version 3.10 --all-extras --no-header --no-annotate pyproject.toml -o requirements.txt

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf out runs _build .pytest_cache .ruff_cache
