# make compress [IN=photos OUT=folder]   recompress photos; sample photos where IN is not given
# make test                              linters, type checker, tests; installs their tools, too
VENV := .venv
PYTHON ?= python3
OUT ?= out
INSTALL := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready-to-test

compress: $(READY)
	$(VENV)/bin/rgc compress "$(or $(IN),$$($(VENV)/bin/python -m pipeline.cli.samples))" "$(OUT)"

test: $(READY_TO_TEST)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses logical

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[samples]"
	touch $@

$(READY_TO_TEST): $(READY)
	$(INSTALL) ".[samples,test]"
	touch $@

.PHONY: compress test
