# make         create .venv, run the notebooks, print Table 1 (takes minutes the first time)
# make help    list the other targets

PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
STAMP   := $(VENV)/.installed
NBSTRIPOUT := $(VENV)/bin/nbstripout --keep-id \
	--extra-keys "metadata.papermill cell.metadata.papermill"

.DEFAULT_GOAL := tables
.DELETE_ON_ERROR:
.PHONY: tables quick test lint format lab clean help

tables: $(STAMP)  ## run notebooks 00 to 08 and write runs/embedded/ (options: ARGS="--limit 5")
	@$(VENV)/bin/python -m tasnb run $(ARGS)

quick: $(STAMP)  ## a first result: notebooks 00 to 05 on five images per split, in runs/quick
	@$(VENV)/bin/python -m tasnb run --limit 5 --notebooks 00,01,02,03,04,05 --out runs/quick $(ARGS)

test: $(STAMP)  ## run the tests in two processes (only the quick ones: ARGS="-m 'not slow and not real_size'")
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)  ## check style, the direction of imports, and that notebooks hold no outputs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(NBSTRIPOUT) --verify notebooks/*.ipynb

format: $(STAMP)  ## format the code and strip the notebooks' outputs
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(NBSTRIPOUT) notebooks/*.ipynb

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab notebooks

clean:  ## remove .venv and runs
	rm -rf $(VENV) runs

help:  ## this list
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "$(PYTHON) is missing or older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo \
	  "$(PYTHON) has no venv; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[dev]'
	@touch $@
