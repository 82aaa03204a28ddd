# make compress [IN=photos OUT=folder]   recompress photos; sample photos where IN is not given
# make test                              linter, type checker, tests
VENV := .venv
PYTHON ?= python3
OUT ?= out
READY := $(VENV)/.ready

compress: $(READY)
	$(VENV)/bin/rgc compress "$(or $(IN),$$($(VENV)/bin/python -m pipeline.cli.samples))" "$(OUT)"

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses logical

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

.PHONY: compress test
