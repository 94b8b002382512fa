# The two main targets are `make run` and `make test`. Each one installs what it needs.

PYTHON := .venv/bin/python
READY := .venv/ready
CLUSTER := .venv/cluster

.DEFAULT_GOAL := help
.PHONY: help setup run report bench test slow cluster docs lint check audit lock clean

STUDY ?= $(firstword $(wildcard runs/severstal runs/synthetic))

help: ## show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(READY) ## create .venv and install the pinned versions from requirements.lock

$(READY): requirements.lock pyproject.toml
	@command -v git >/dev/null || echo "git is missing: results will not record their commit (apt install git)"
	@command -v python3 >/dev/null || { echo "python3 is missing: apt install python3 python3-venv"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 is $$(python3 --version); 3.11 or later is required"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "python3-venv is missing: apt install python3-venv"; exit 1; }
	@echo "Setting up .venv (once; a few minutes, up to 10 GB with the CUDA libraries)"
	@test -x $(PYTHON) || python3 -m venv .venv
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

PAPER := -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
BASELINES := -m encoder=resnet,densenet init=random frac=1.0,0.5
TRANSFER := -m encoder=efficientnet_lite0 init=random,imagenet frac=1.0,0.5 seed=0,1,2
sweep = echo "python run.py $(1)"; $(PYTHON) run.py $(1)

run: setup ## run the paper's study (EfficientNet-Lite0 measures transfer if the paper's ImageNet weights are not available)
	@if $(PYTHON) -m tlunet.model.init resnet18 densenet121; then \
		$(call sweep,$(PAPER)); \
	else \
		echo "Measuring transfer with EfficientNet-Lite0 instead: its weights are installed."; \
		echo "To run the paper's study, pass its weights: TLUNET_WEIGHTS=FOLDER make run"; \
		code=0; ($(call sweep,$(BASELINES))) || code=$$?; ($(call sweep,$(TRANSFER))) || code=$$?; exit $$code; \
	fi

report: setup ## regenerate the report of STUDY (STUDY=runs/severstal)
	@test -n "$(STUDY)" || { echo "no study in runs/: run 'make run' first, or pass one: make report STUDY=runs/…"; exit 2; }
	.venv/bin/tlunet report $(STUDY)

bench: setup ## benchmark this machine and update benchmarks/README.md
	.venv/bin/tlunet bench --out benchmarks/results
	$(PYTHON) -m tlunet.bench.page benchmarks/README.md

test: setup ## run all tests except the slow ones
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

slow: setup ## run the slow tests: killed and resumed processes, multi-process cells, out of memory
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

cluster: setup $(CLUSTER)/ready ## test sweeps on real Slurm, Ray and joblib; takes minutes (Slurm needs root: apt install slurmctld slurmd munge)
	TLUNET_CLUSTER=1 $(CLUSTER)/bin/python -m pytest -s tests/cluster

# The launchers get a separate environment on top of .venv, so .venv keeps matching requirements.lock.
$(CLUSTER)/ready: requirements-cluster.lock
	@$(PYTHON) -m venv $(CLUSTER)
	@$(PYTHON) -c "import sysconfig as s; print('import site; site.addsitedir(%r)' % s.get_path('purelib'))" \
		> $$($(CLUSTER)/bin/python -c "import sysconfig as s; print(s.get_path('purelib'))")/base.pth
	@$(CLUSTER)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements-cluster.lock
	@touch $@

docs: setup ## build the offline documentation site: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint test slow ## run everything CI runs except the cluster tests: lint, format, types, import contract, tests

# pip-audit queries the Python Package Index, so this target needs network access.
audit: setup ## audit pinned versions for vulnerabilities
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --disable-pip-version-check --quiet pip-audit; }
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements.lock -r requirements-cluster.lock

lock: setup ## write requirements.lock from the installed packages (torch itself pins the CUDA libraries)
	$(PYTHON) -m pip freeze --all --exclude-editable | grep -viE '^(pip|nvidia|cuda|triton)[-=]' | grep -vi '^nvidia' > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove .venv and caches; keep runs/ and data/
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
