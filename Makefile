# make reproduce [SCALE=quick|mini|paper] [CORES=N] [GPUS=N] [SEEDS=N] [TARGETS="table1 table2"]
#                                   set up, then make every training, table and figure, or TARGETS;
#                                   trainings on GPUs share N GPUs (default: all visible GPUs)
# make check                                          run every step quickly, at scale smoke
# make report [SCALE=mini]                            one HTML page of the results so far; trains nothing
# make test                                           set up, then run the fast tests (minutes)
# make test-all | test-rest                           all tests | the slow tests, not in make test
# make test-slurm                                     tests that need SLURM (root; slurm-wlm and munge)
# make bench                                          the head's speed compared with MMDetection's heads
# make site                                           the documentation as a site, site/index.html
# make reference [RESULTS=mini]                       make the folder of results that is committed
# make resume [RESULTS=mini]                          restore committed results of another machine
# make lint | format | docs | env | lock | unlock | help
#
# A virtual environment in .venv is made on the first call (minutes: MMCV is compiled from source)
# and again only when requirements.lock changes. On a machine with an NVIDIA GPU see environment.yml.

SHELL := /bin/bash
.DEFAULT_GOAL := help
SCALE ?= quick
RESULTS ?= $(SCALE)
CORES ?= all
PYTHON ?= python3.11
# Counted as `obc train` counts GPUs. Empty without GPUs, or if counting fails: `obc train` then says
# why.
GPUS ?= $(shell $(BIN)/python -c 'import os; from obc.training.gpu_lease import *; print(len(visible_devices(installed_devices(), os.environ.get(VISIBLE))) or "")' 2> /dev/null)
# SEEDS=3: seeds 0, 1 and 2 of every run; default: the seeds of the scale.
SEEDS_CONFIG = $(if $(SEEDS),'seeds=[$(shell seq -s, 0 $$(($(SEEDS)-1)))]')
BIN := .venv/bin

# Invalid choices are refused here, before anything is set up; Snakemake checks the rest.
SCALES := $(sort $(basename $(notdir $(wildcard config/scales/*.yaml))))
ifneq ($(words $(SCALE)) $(words $(filter $(SCALES),$(SCALE))),1 1)
$(error SCALE=$(SCALE): allowed is one of $(SCALES))
endif
ifneq ($(SEEDS),)
ifeq ($(shell grep -Ex '[1-9][0-9]*' <<< '$(SEEDS)'),)
$(error SEEDS=$(SEEDS): allowed is a number from 1 on, of trainings of every run; single seeds: snakemake table1 --config scale=$(SCALE) 'seeds=[3]')
endif
endif
# Targets are names of config/experiments, names of single rules, or files.
TARGET_NAMES := $(sort $(basename $(notdir $(wildcard config/experiments/*.yaml)))) \
  all all_csv claims curves diagnosis figure4 figure6 inside losses partial report training_curves
UNKNOWN_TARGETS := $(strip $(foreach target,$(TARGETS),$(if $(findstring /,$(target)),,$(filter-out $(TARGET_NAMES),$(target)))))
ifneq ($(UNKNOWN_TARGETS),)
$(error TARGETS: no $(UNKNOWN_TARGETS); allowed: $(TARGET_NAMES), or a file. Keys: snakemake table1 --config scale=$(SCALE) key=value, targets before --config)
endif

quoted = '$(subst ','\'',$(1))'
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

# -g0: no debug symbols, which take most of MMCV's compile time. One job per core.
MMCV_BUILD := CFLAGS="-g0" MAX_JOBS=$(shell nproc)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
locked = $(foreach name,$(1),$(shell grep -E '^$(name)==' requirements.lock))

.PHONY: help reproduce check report reference resume test test-all test-rest test-slurm bench lint format docs site env lock unlock

help: ## list the targets
	@sed -n '1,17s/^# \{0,1\}//p' Makefile

reproduce: $(READY) ## make every run, table and figure of a scale, or TARGETS
	@$(BIN)/python -m obc.cli.snakemake --cores $(CORES) $(foreach count,$(GPUS),--resources gpu=$(count)) $(TARGETS) --config scale=$(SCALE) $(SEEDS_CONFIG) \
	  || { status=$$?; [ $$status = 130 ] || exit $$status; } # after Ctrl-C the line of the workflow is the last

check: ## run every step of the workflow at scale smoke, whose numbers mean nothing
	@$(MAKE) --no-print-directory reproduce SCALE=smoke

# `obc report` shows the results so far and says what is missing. Snakemake's own report needs every
# file of its targets: give TARGETS="table1 table3" if only these were made.
report: $(READY) ## write results/<scale>/report.html, and Snakemake's own report to the same folder
	@test -f results/$(RESULTS)/plan.json || { echo "nothing to report: results/$(RESULTS) is not there; make reproduce SCALE=$(SCALE) first"; exit 1; }
	$(BIN)/obc report results/$(RESULTS)/plan.json
	@rm -f results/$(RESULTS)/snakemake-report.html
	@$(BIN)/snakemake $(TARGETS) --report results/$(RESULTS)/snakemake-report.html --config scale=$(SCALE) $(SEEDS_CONFIG) \
	  || echo "no report of Snakemake's own: it needs every file of its targets (TARGETS=\"table1\" names some); results/$(RESULTS)/report.html is whole without it"

# Written outside results/<scale>, so that `reproduce` still makes its own results. COMMAND and PURPOSE
# default to those in the folder's run.yaml.
reference: $(READY) ## copy the small files of results/RESULTS to results/reference (COMMAND, PURPOSE, FINDING, KEEP_RUNS=1)
	@test -f results/$(RESULTS)/plan.json || { echo "results/$(RESULTS) is not there; make reproduce SCALE=$(RESULTS) first"; exit 1; }
	@$(BIN)/obc export --plan results/$(RESULTS)/plan.json --format reference $(if $(KEEP_RUNS),--keep-runs) \
	  $(if $(COMMAND),--made-by $(call quoted,$(COMMAND))) $(if $(PURPOSE),--purpose $(call quoted,$(PURPOSE))) $(if $(FINDING),--finding $(call quoted,$(FINDING)))

# Runs that another machine trained and evaluated: see docs/operations.md, "In several sittings".
resume: $(READY) ## restore the runs stored in results/reference/RESULTS to results/RESULTS; trains nothing
	@$(BIN)/snakemake --cores $(CORES) --until index start fetch --configfile results/reference/$(RESULTS)/config.yaml
	@$(BIN)/obc import --plan results/$(RESULTS)/plan.json results/reference/$(RESULTS)
	@echo "go on with: snakemake --cores N [targets] --configfile results/reference/$(RESULTS)/config.yaml"

# Tests that need the same costly folder form a group (loadgroup), which one worker runs.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

test: $(READY) ## run the fast tests: from bins to page, a table end to end, a kill and resume
	$(PYTEST) -m "not slow"

test-all: $(READY) ## run all tests except those that need SLURM
	$(PYTEST)

test-rest: $(READY) ## run the slow tests, which `make test` leaves out
	$(PYTEST) -m slow

# These tests start a private SLURM; without SLURM's programs each test is skipped with a reason.
test-slurm: $(READY) ## run the workflow on a real SLURM and kill its jobs in every way
	$(BIN)/python -m pytest tests/slurm -rs

# Not a test: it takes minutes, and load on the machine changes its numbers.
bench: $(READY) ## time the heads, a training step and a job's start against MMDetection and goals; prints Markdown
	@mkdir -p .benchmarks
	$(BIN)/python -m pytest benchmarks/test_heads.py -o addopts= -q -W ignore --benchmark-quiet --benchmark-json=.benchmarks/heads.json
	@$(BIN)/python benchmarks/head_table.py .benchmarks/heads.json
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/first_minutes.py

lint: $(READY) ## run ruff, snakefmt, snakemake --lint, lint-imports (layers of the package) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

docs: $(READY) ## write the generated pages of docs/: keys, picture of the DAG, measured tables, a notebook
	$(BIN)/python docs/generate.py

# A separate environment, set up in seconds: API pages are read from the source without importing it.
SITE := .venv-site
site: $(SITE)/.ready ## build docs/ and an API reference as a site, site/index.html; fails at a broken link
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict
	@echo "site/index.html"

$(SITE)/.ready: pyproject.toml
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > $(SITE)/requirements.txt
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -r $(SITE)/requirements.txt
	@touch $@

env: $(READY) ## set up the virtual environment only

# Written last, so that an interrupted set-up starts over and does not count as complete.
$(READY): requirements.lock
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) not found: install Python 3.11, or say make PYTHON=..."; exit 1; }
	@command -v g++ > /dev/null || { echo "g++ not found: MMCV is compiled here; install a C++ compiler (Debian: apt install g++ python3.11-dev)"; exit 1; }
	@echo "1/5 virtual environment in .venv"
	@rm -f $(READY)
	@$(PYTHON) -m venv .venv || { echo "could not make .venv (Debian: apt install python3.11-venv)"; exit 1; }
	@echo "2/5 torch"
	@$(PIP) $(call locked,setuptools wheel ninja psutil packaging torch)
	@echo "3/5 MMCV (compiling from source takes minutes; a wheel in PIP_FIND_LINKS spares it)"
	@$(MMCV_BUILD) PYTHONUNBUFFERED=1 $(BIN)/python -P obc/operations/compilation.py "3/5 MMCV" \
	  $(filter-out --quiet,$(PIP)) --verbose --no-build-isolation --no-deps $(call locked,onedl-mmcv)
	@echo "4/5 everything else"
	@$(PIP) --no-build-isolation -r requirements.lock
	@# MMCV asks for opencv-python, which needs libGL; the headless build serves the same import.
	@$(PIP) --force-reinstall --no-deps $(call locked,opencv-python-headless)
	@echo "5/5 this package"
	@$(BIN)/python -m pip uninstall --quiet --yes obc 2> /dev/null # this package by its former name
	@$(PIP) --no-build-isolation --no-deps -e .
	@$(BIN)/python -m pip check
	@$(BIN)/python -c "from mmcv.ops import nms, roi_align; import mmdet, obc"
	@touch $(READY)
	@echo "environment ready"

# pip-compile needs MMCV's metadata, hence no build isolation. The suffix +cpu is removed.
lock: $(READY) ## write requirements.lock from pyproject.toml
	$(PIP) pip-tools==7.6.2
	grep -E '^torch==' requirements.lock > .venv/torch.txt
	$(BIN)/pip-compile --quiet --extra onedl --extra suite --extra notebooks --extra dev --extra build --strip-extras --no-header --no-annotate \
	  --allow-unsafe --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
	  --pip-args '--no-build-isolation' -c .venv/torch.txt -o .venv/lock.txt pyproject.toml
	(sed -n '/^#/p' requirements.lock; grep '==' .venv/lock.txt | sed 's/+cpu$$//') > .venv/lock.new
	mv .venv/lock.new requirements.lock

unlock: $(READY) ## remove Snakemake's lock after snakemake itself was killed (kill -9, power loss)
	$(BIN)/snakemake --unlock --config scale=$(SCALE)
