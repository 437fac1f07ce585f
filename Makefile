# `make` lists what can be made. Everything is installed into .venv, nothing outside of it, but
# Chromium (for tests and the PDF), by the system's package manager.

PYTHON ?= python3
VENV := .venv
# Threads that spin while they wait make every other process on the machine many times slower; those
# that do not spin at all are half as fast themselves. So they spin for microseconds.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 2000
BIN := $(VENV)/bin
# An extra index for pip, such as that of torch's small CPU build (see README.md).
TORCH_INDEX ?=
PIP_INSTALL = "$(BIN)/python" -m pip install -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)")

# What a user types for a re-run reaches Python as words of the environment: neither make nor the
# shell ever reads it as text of its own.
export VAE_NB_CHAPTER := $(value CHAPTER)
export VAE_NB_BETA := $(value BETA)
export VAE_NB_ARGS := $(value ARGS)
export VAE_NB_PROFILE := $(value PROFILE)
unexport CHAPTER BETA ARGS PROFILE

.PHONY: help book preview lab pdf lint check test faults verify sweep rerun exercises picture canary clean distclean

help:
	@echo "make book                               install into .venv and build the report"
	@echo "make preview                            the same from archived models, in minutes:"
	@echo "                                        none of the report's is trained"
	@echo "make lab                                open the chapters in JupyterLab"
	@echo "make pdf                                print the report as one PDF (needs Chromium)"
	@echo "make rerun CHAPTER=beta_ten BETA=0.5    run a chapter with another beta, as a page;"
	@echo "                                        BETA=\"0.5 1 2\" compares several,"
	@echo "                                        PROFILE=default trains from new weights,"
	@echo "                                        ARGS=\"-p epochs 1\" sets other parameters,"
	@echo "                                        a list without spaces: ARGS=\"-p compared [0.1,1]\""
	@echo "make exercises                          write the chapters for students into exercises/,"
	@echo "                                        without the solutions"
	@echo "make check                              linters, types and the fast tests (two minutes)"
	@echo "make test                               linters, types and all tests (half an hour)"
	@echo "make faults                             a campaign of kills, damage, failing calls, races and"
	@echo "                                        bad input (20 minutes); SEED=3 for another one"
	@echo "make verify                             compare the verdicts with those of the prose"
	@echo "make sweep                              train and measure what the archive lacks, or other"
	@echo "                                        code made (all: a day; resumes where it stopped)"
	@echo "make picture                            take the README's picture of the built first page"
	@echo "                                        (needs Chromium)"
	@echo "make canary                             try the newest Jupyter Book on a copy of the book;"
	@echo "                                        says what it found, and never fails"
	@echo "make clean                              remove built pages and re-runs; trained models"
	@echo "                                        (in the user's cache) and .venv stay"
	@echo "make distclean                          remove .venv as well"
	@echo
	@echo "PYTHON=python3.12      the Python that .venv is made of (3.11 or later)"
	@echo "TORCH_INDEX=<address>  an extra index for pip, for the small CPU build of torch"

book: $(VENV)/installed
	$(BIN)/jupyter-book build book/
	@echo
	@echo "The report: $$PWD/book/_build/html/index.html"

preview: $(VENV)/installed
	$(BIN)/python -m vae_nb preview

lab: $(VENV)/installed-lab
	$(BIN)/jupyter lab book/index.ipynb

pdf: $(VENV)/installed
	$(BIN)/python -m vae_nb pdf

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id book/*.ipynb
	$(BIN)/oxlint --deny-warnings vae_nb book/_static
	$(BIN)/mypy

check: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

test: lint
	@sh tests/chromium.sh
	@status=0; OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope || status=$$?; \
		sh tests/chromium.sh --check; exit $$status

SEED ?= 0
faults: $(VENV)/installed-test
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" OMP_NUM_THREADS=1 $(BIN)/python -m faults --seed $(SEED)

verify: $(VENV)/installed
	$(BIN)/python -m vae_nb verify

sweep: $(VENV)/installed
	$(BIN)/python -m vae_nb sweep --output vae_nb/archive.json

rerun: $(VENV)/installed
	@test -n "$$VAE_NB_CHAPTER" || { \
		echo 'Which chapter? make rerun CHAPTER=beta_ten BETA="0.5 1"'; exit 2; }
	@set -f; exec "$(BIN)/python" -m vae_nb rerun "$$VAE_NB_CHAPTER" \
		$${VAE_NB_BETA:+--beta $$VAE_NB_BETA} \
		$${VAE_NB_PROFILE:+-p profile "$$VAE_NB_PROFILE"} $$VAE_NB_ARGS

exercises: $(VENV)/installed
	@$(BIN)/python -m vae_nb exercises

picture: $(VENV)/installed-test
	$(BIN)/python tests/picture.py

canary:
	@$(PYTHON) tests/canary.py

clean:
	rm -rf book/_build rerun build dist vae_nb.egg-info .pytest_cache .ruff_cache .mypy_cache
	find book tests vae_nb -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Debian's Python comes without what `venv` needs to put pip there; the Python's own pip does it then.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is not Python 3.11 or later: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install pip; }
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-lab: $(VENV)/created pyproject.toml constraints.txt
	$(PIP_INSTALL) -e ".[lab]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-test: $(VENV)/created pyproject.toml constraints.txt
	$(PIP_INSTALL) -e ".[test]"
	@touch $@ $(VENV)/installed
