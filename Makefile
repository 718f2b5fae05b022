# One command each; every one sets up its own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Data sets from outside are used where they lie, never copied; the package itself knows nothing of this folder.
ifneq ($(wildcard ../shared/data),)
export RESMOE_DATA ?= $(abspath ../shared/data)
endif
# Set this to install from elsewhere, for instance from an index of CPU or CUDA builds of PyTorch.
PIP_ARGS ?=
# constraints.txt pins what CI ran with; `make demo CONSTRAINTS=` lifts every pin (GPU users: see that file).
CONSTRAINTS ?= -c constraints.txt

.PHONY: demo test lab lint bench figures zoo-results app clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo   the whole story on the embedded model: figures/demo.html"
	@echo "make test   all tests and checks"
	@echo "make lab    JupyterLab at notebooks/"
	@echo "make app    the panels as an app, on this machine only"
	@echo "make figures the gallery in figures/gallery, from the demo's sweep"
	@echo "make zoo-results what comes with the embedded models: a sweep, and records of the panels"
	@echo "make bench  benchmarks, printed as ratios"
	@echo "make lint   format and lint in place"

demo: $(VENV)/.base
	$(BIN)/resmoe-lab compress mixtral-tiny --method resmoe-svd-separate --out figures/demo.packed
	$(BIN)/resmoe-lab report mixtral-tiny --out figures/demo.html --bench figures/demo.packed

# Two processes of one thread each: threads of several processes that wait for one another take far longer.
WORKERS ?= 2
test: export HF_HUB_OFFLINE = 1
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

lab: $(VENV)/.lab
	$(BIN)/resmoe-lab lab

app: $(VENV)/.app
	$(BIN)/resmoe-lab app

lint: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.transport
	$(BIN)/python -m benchmarks.slider

figures: demo
	$(BIN)/python -m resmoe_lab.report.gallery figures/demo.sweep figures/gallery

# Run again when a panel or a sweep computes something else than before; the tests tell.
zoo-results: $(VENV)/.dev
	rm -rf figures/zoo.sweep
	$(BIN)/resmoe-lab sweep mixtral-tiny --limit 200 --out figures/zoo.sweep
	$(BIN)/python -m resmoe_lab.workbench.ship figures/zoo.sweep

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version): make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.lab: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $(CONSTRAINTS) -e '.[lab]'
	@touch $@

$(VENV)/.app: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $(CONSTRAINTS) -e '.[app]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) $(CONSTRAINTS) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
