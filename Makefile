# Two commands: `make run` and `make test`. Each sets up what it needs.

PYTHON := .venv/bin/python
READY := .venv/ready
CLUSTER := .venv/cluster

.DEFAULT_GOAL := help
.PHONY: help setup run report bench test slow cluster docs lint check audit lock clean

STUDY ?= $(firstword $(wildcard runs/severstal runs/synthetic))

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(READY) ## make .venv and install the exact versions of requirements.lock

$(READY): requirements.lock pyproject.toml
	@command -v git >/dev/null || echo "git is missing: results will not say which commit they come from (apt install git)"
	@command -v python3 >/dev/null || { echo "python3 is missing: apt install python3 python3-venv"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 is $$(python3 --version); 3.11 or later is needed"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "python3-venv is missing: apt install python3-venv"; exit 1; }
	@echo "Setting up .venv: once, several minutes, about 7 GB with CUDA's libraries"
	@test -x $(PYTHON) || python3 -m venv .venv
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

PAPER := -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
BASELINES := -m encoder=resnet,densenet init=random frac=1.0,0.5
TRANSFER := -m encoder=efficientnet_lite0 init=random,imagenet frac=1.0,0.5 seed=0,1,2
sweep = echo "python run.py $(1)"; $(PYTHON) run.py $(1)

run: setup ## the paper's study; without ImageNet weights for its encoders, EfficientNet-Lite0 stands in for transfer
	@if $(PYTHON) -m tlunet.model.init resnet18 densenet121; then \
		$(call sweep,$(PAPER)); \
	else \
		echo "EfficientNet-Lite0, whose weights are installed, shows what ImageNet gains instead."; \
		echo "The paper's study needs a folder with those weights: TLUNET_WEIGHTS=FOLDER make run"; \
		code=0; ($(call sweep,$(BASELINES))) || code=$$?; ($(call sweep,$(TRANSFER))) || code=$$?; exit $$code; \
	fi

report: setup ## write the report of STUDY anew (STUDY=runs/severstal)
	@test -n "$(STUDY)" || { echo "no study in runs/: make run first, or name one: make report STUDY=runs/…"; exit 2; }
	.venv/bin/tlunet report $(STUDY)

bench: setup ## measure this machine's speed, and render benchmarks/README.md
	.venv/bin/tlunet bench --out benchmarks/results
	$(PYTHON) -m tlunet.bench.page benchmarks/README.md

test: setup ## run the tests, but for those of make slow
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

slow: setup ## the tests that take their time: processes killed and resumed, several to a cell, memory exhausted
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

cluster: setup $(CLUSTER)/ready ## sweep through Slurm, Ray and joblib for real: minutes (Slurm as root: apt install slurmctld slurmd munge)
	TLUNET_CLUSTER=1 $(CLUSTER)/bin/python -m pytest -s tests/cluster

# The launchers in an environment of their own on top of .venv, which stays as requirements.lock has it.
$(CLUSTER)/ready: requirements-cluster.lock
	@$(PYTHON) -m venv $(CLUSTER)
	@$(PYTHON) -c "import sysconfig as s; print('import site; site.addsitedir(%r)' % s.get_path('purelib'))" \
		> $$($(CLUSTER)/bin/python -c "import sysconfig as s; print(s.get_path('purelib'))")/base.pth
	@$(CLUSTER)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements-cluster.lock
	@touch $@

docs: setup ## make the site: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint test slow ## what CI runs, but for the clusters: lint, format, types, import contract, tests

# pip-audit asks the Python Package Index for known weaknesses: this needs the network.
audit: setup ## look every pinned version up among the known weaknesses
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --disable-pip-version-check --quiet pip-audit; }
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements.lock -r requirements-cluster.lock

lock: setup ## write requirements.lock from what is installed (CUDA's libraries are pinned by torch itself)
	$(PYTHON) -m pip freeze --all --exclude-editable | grep -viE '^(pip|nvidia|cuda|triton)[-=]' | grep -vi '^nvidia' > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove .venv and caches; runs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
