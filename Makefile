# Everything a user does, one target each; every target sets up what it needs.
# Python 3.11, 3.12 or 3.13; without PYTHON=…, the first of these that the PATH has.
PYTHON ?= python3.11 python3.12 python3.13 python3
VENV := .venv
BIN := $(VENV)/bin
VOICE_FACTORY := $(BIN)/python -m pipeline.cli
# The build of torch: cpu or cuda. An environment keeps its build until the other one is asked for.
TORCH ?= $(or $(shell cat $(VENV)/.ready 2>/dev/null),cpu)
# uv, fetched into the environment where the PATH has none, or pip.
INSTALLER ?= uv
PRESET ?=
# Bytecode is kept whatever the caller's shell says: without it every process would compile its libraries again.
export PYTHONDONTWRITEBYTECODE :=
export DVC_NO_ANALYTICS := true
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PATH := $(abspath $(BIN)):$(PATH)

# A preset may ask for other recordings.
SWITCH = $(if $(PRESET),$(VOICE_FACTORY) preset $(PRESET) && $(BIN)/python -m pipeline.setup.prepare &&)

.PHONY: help setup recordings run voice flow experiment sweep serve deploy worker ui-shot corpus-report choose say compare serve-voice release test test-all check bench preset summary deps gc ray lock clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

LOCKS := requirements.lock requirements-pipeline.lock
UV = $(if $(filter uv,$(INSTALLER)),$(shell command -v uv || ls $(BIN)/uv 2>/dev/null))
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --no-compile
INSTALL = $(if $(UV),$(UV) --quiet pip install --python $(BIN)/python,$(PIP))
# uv does not read pip's settings of where packages come from.
comma := ,
export UV_FIND_LINKS ?= $(subst $(eval ) ,$(comma),$(PIP_FIND_LINKS))
$(if $(PIP_INDEX_URL),$(eval export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)))

$(BIN)/python:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    exec "$$python" -m venv $(if $(UV),--without-pip) $(VENV); fi; \
	done; echo "error: Python 3.11, 3.12 or 3.13 is needed (tried: $(PYTHON)); set PYTHON=/path/to/python" >&2; exit 1
	$(if $(UV)$(filter pip,$(INSTALLER)),,@sed -n '/^uv==/,/[^\\]$$/p' requirements-pipeline.lock | $(PIP) --require-hashes --requirement /dev/stdin || \
	  echo "uv cannot be fetched: pip installs, more slowly" >&2)

ifneq ($(TORCH),$(shell cat $(VENV)/.ready 2>/dev/null))
.PHONY: $(VENV)/.ready
endif
$(VENV)/.ready: $(LOCKS) requirements-unhashed.lock | $(BIN)/python
	$(if $(TORCH_$(TORCH)),,$(error TORCH is cpu or cuda, not $(TORCH)))
	@$(TORCH_$(TORCH))
	$(INSTALL) --no-deps --require-hashes $(addprefix --requirement ,$(LOCKS))
	$(INSTALL) --no-deps --requirement requirements-unhashed.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m dvc status -q >/dev/null 2>&1 || true  # leaves DVC compiled for callers that may not write bytecode
	@echo $(TORCH) >$@

TORCH_VERSION := $(shell sed -n 's/^torch==//p' requirements-unhashed.lock)
TORCH_INDEX := https://download.pytorch.org/whl/cpu
# No other build is called "+cpu", so none can take its place. Local folders come first: they need no network.
TORCH_cpu = $(INSTALL) --no-deps --no-index torch==$(TORCH_VERSION)+cpu 2>/dev/null || \
  UV_HTTP_RETRIES=1 PIP_RETRIES=1 $(INSTALL) --no-deps --index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)+cpu || \
  { echo "error: PIP_FIND_LINKS and $(TORCH_INDEX) have no torch $(TORCH_VERSION)+cpu for this Python (TORCH=cuda: several GB)" >&2; exit 1; }
# "===" does not accept "+cpu". Elsewhere than here, where pyproject.toml hides the CUDA libraries from uv.
TORCH_cuda = cd / && $(subst $(BIN),$(abspath $(BIN)),$(INSTALL)) torch===$(TORCH_VERSION)

.dvc/plots.html: $(VENV)/.ready
	@$(BIN)/python -m pipeline.setup.offline_plots

setup: $(VENV)/.ready .dvc/plots.html  ## virtual environment, locked packages, recordings, git and DVC state [TORCH=cpu|cuda] [INSTALLER=uv|pip]
	@git rev-parse --verify -q HEAD >/dev/null || { git init -q . && git add -A && git commit -qm "Start"; }
	@$(BIN)/python -m pipeline.setup.prepare

recordings: $(VENV)/.ready  ## the default recordings, fetched with apt into data/recordings
	@$(BIN)/python -m pipeline.corpora.asterisk

preset: $(VENV)/.ready  ## write a preset into params.yaml: make preset PRESET=smoke|laptop|voice|trilingual|reference
	@$(VOICE_FACTORY) preset $(PRESET)

run: setup  ## the main job: every stage that changed, then the summary (PRESET=… switches first)
	@$(VOICE_FACTORY) run $(if $(PRESET),--preset $(PRESET))

voice: setup  ## the laptop's best voice: the run above with the preset voice, an hour of two CPU cores
	@$(MAKE) --no-print-directory run PRESET=voice

flow: setup  ## the same DAG as a Prefect flow, independent stages side by side
	@$(SWITCH) $(VOICE_FACTORY) flow && $(VOICE_FACTORY) summary

experiment: setup  ## other parameters in a clone of its own: make experiment NAME=long SET="train.optimisation.steps=3000" [PRESET=…] [REV=HEAD]
	@$(VOICE_FACTORY) experiment "$$NAME" $(SET) $(if $(PRESET),--preset $(PRESET)) $(if $(REV),--rev $(REV))
experiment sweep: override export NAME := $(value NAME)

sweep: setup  ## many experiments, ranked: make sweep NAME=rates SPACE="train.optimisation.learning_rate=1e-3,2e-3" [SEEDS="1 2"] [OPTIONS=…]
	@$(VOICE_FACTORY) sweep "$$NAME" $(SPACE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PRESET),--preset $(PRESET)) $(OPTIONS)

serve: setup  ## a Prefect server on this machine with everything deployed, and a worker: make serve [PORT=4200]
	@$(VOICE_FACTORY) serve $(if $(PORT),--port $(PORT))

deploy: $(VENV)/.ready  ## the flows onto the server of PREFECT_API_URL; then make worker on every machine
	@$(VOICE_FACTORY) deploy

worker: setup  ## do the runs of the server of PREFECT_API_URL in this clone
	@$(VOICE_FACTORY) worker

ui-shot: setup  ## pictures of the newest finished run in the UI of PREFECT_API_URL (needs Chromium): make ui-shot [OUT=docs]
	@$(VOICE_FACTORY) ui-shot --out "$(or $(OUT),docs)"

corpus-report: setup  ## a page about the recordings before anything is trained: make corpus-report [OUT=page.html]
	@$(VOICE_FACTORY) corpus-report $(if $(OUT),"$(OUT)")

choose: $(VENV)/.ready  ## make the best kept checkpoint the voice (see evaluate.checkpoint_utterances): make choose [BY=cer|mos]
	@$(VOICE_FACTORY) choose $(if $(BY),--by $(BY))

say: $(VENV)/.ready  ## speak with the trained voice: make say TEXT="Hello." [OUT=say.wav] [SPEAKER=…] [LANGUAGE=EN]
	@$(VOICE_FACTORY) say --text "$$TEXT" --out "$(or $(OUT),say.wav)" --language $(or $(LANGUAGE),EN) $(if $(SPEAKER),--speaker "$(SPEAKER)")
say: override export TEXT := $(value TEXT)

serve-voice: $(VENV)/.ready  ## a page and an address that speak with the trained voice: make serve-voice [VOICE=voice] [PORT=8500]
	@$(VOICE_FACTORY) serve-voice --voice "$(or $(VOICE),voice)" --port $(or $(PORT),8500)

compare: $(VENV)/.ready  ## which voice is better, and how sure that is: make compare A=REV B=REV [C=REV] [RATINGS="FILE …"] [OUT=comparison]
	@$(VOICE_FACTORY) compare "$(A)" "$(or $(B),workspace)" $(if $(C),"$(C)") --out "$(or $(OUT),comparison)" $(if $(RATINGS),--ratings $(RATINGS))
compare: A ?= HEAD

release: $(VENV)/.ready  ## register the voice's next version and export it: make release [VERSION=v1.2.0] [DRY_RUN=1] [LIST=1: the versions]
	@$(VOICE_FACTORY) release $(if $(VERSION),--version $(VERSION)) $(if $(DRY_RUN),--dry-run) $(if $(LIST),--list)

summary: $(VENV)/.ready  ## what the last run did
	@$(VOICE_FACTORY) summary

test: setup  ## the tests, with linters and contracts (under 15 minutes on two cores)
	@$(BIN)/python -m pytest

test-all: setup  ## the slow tests as well
	@$(BIN)/python -m pytest -m "slow or not slow"

check: $(VENV)/.ready  ## linter, types and import contracts alone
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup  ## benchmarks: our way beside the usual way, in one run; results in bench/*.json
	@$(VOICE_FACTORY) bench

deps: $(VENV)/.ready  ## write every stage's code dependencies into dvc.yaml
	@$(BIN)/python -m pipeline.setup.declare

gc: $(VENV)/.ready  ## bound the store of reusable rows: make gc [GIGABYTES=20] [DAYS=60] [ALL=1: training states too]; costs only time
	@$(VOICE_FACTORY) gc $(if $(GIGABYTES),--max-gigabytes $(GIGABYTES)) $(if $(DAYS),--max-days $(DAYS)) $(if $(ALL),--all)

ray: $(VENV)/.ready  ## Ray, for data stages on a cluster (see the README); on every node
	@$(INSTALL) --no-deps --require-hashes --requirement requirements-ray.lock

# What no stage imports: every stage depends on requirements.lock, so that lock leaves these out.
PIPELINE_ONLY := fastapi optuna prefect uvicorn vl-convert-python
omit = $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' $(1))
COMPILE = $(UV) --quiet pip compile --universal --generate-hashes --no-annotate --custom-compile-command "make lock" \
  $(addprefix --upgrade-package ,$(UPGRADE)) --constraint requirements-unhashed.lock
COMPILE_PROJECT = $(COMPILE) $(call omit,requirements-unhashed.lock) pyproject.toml --extra perceptual
TRILINGUAL := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["trilingual"], sep="\n")

lock: $(VENV)/.ready  ## write the lock files for pyproject.toml; versions stay but for those named: make lock [UPGRADE="name name"]
	@printf '%s\n' $(PIPELINE_ONLY) | $(COMPILE_PROJECT) --excludes /dev/stdin --output-file requirements.lock
	@echo "# Without hashes, in requirements-unhashed.lock:" >>requirements.lock; sed -n 's/^[a-z].*==/# &/p' requirements-unhashed.lock >>requirements.lock
	@$(COMPILE_PROJECT) --extra dev --constraint requirements.lock $(call omit,requirements.lock) --output-file requirements-pipeline.lock
	@$(COMPILE_PROJECT) --extra dev --extra ray $(addprefix --constraint ,$(LOCKS)) $(call omit,$(LOCKS)) --output-file requirements-ray.lock
	@$(BIN)/python -c '$(TRILINGUAL)' | $(COMPILE) - --no-emit-package sudachidict-core --output-file requirements-trilingual.lock  # clips were read without it

clean:  ## delete the environment and all outputs (recordings stay)
	rm -rf $(VENV) .rows .work voice reports metrics.json speed.json comparison dvc_plots $(addprefix data/,corpus resample clean_text spectrogram bert split)
