# All tasks of a user, one target each. Every target sets up what it needs.

# Python 3.11, 3.12 or 3.13: the first of these names on the PATH.
PYTHON ?= python3.11 python3.12 python3.13 python3
# Build of torch, cpu or cuda. An environment keeps its build until another one is requested.
TORCH ?= $(or $(shell cat $(READY) 2>/dev/null),cpu)
# uv or pip. uv is installed into the environment if the PATH has none.
INSTALLER ?= uv
PRESET ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VOICE_FACTORY := $(BIN)/python -m pipeline.cli
# The caller's shell may forbid bytecode. Without it every process compiles all libraries again.
export PYTHONDONTWRITEBYTECODE :=
export DVC_NO_ANALYTICS := true
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help setup recordings run voice flow experiment sweep serve deploy worker ui-shot corpus-report choose say compare serve-voice release test test-all check bench preset summary deps gc ray lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY) .dvc/plots.html  ## install the locked packages, fetch recordings, create git and DVC state [TORCH=cpu|cuda] [INSTALLER=uv|pip]
	@git rev-parse --verify -q HEAD >/dev/null || { git init -q . && git add -A && git commit -qm "Start"; }
	@$(BIN)/python -m pipeline.setup.prepare

recordings: $(READY)  ## fetch the default recordings with apt into data/recordings
	@$(BIN)/python -m pipeline.corpora.asterisk

preset: $(READY)  ## write a preset's values into params.yaml: make preset PRESET=smoke|laptop|voice|trilingual|reference
	@$(VOICE_FACTORY) preset $(PRESET)

run: setup  ## the main job: run every stage whose inputs changed, print the summary [PRESET=…]
	@$(VOICE_FACTORY) run $(if $(PRESET),--preset $(PRESET))

voice: setup  ## the best voice for a laptop: `run` with the preset voice, an hour on two CPU cores
	@$(MAKE) --no-print-directory run PRESET=voice

flow: setup  ## the same stages as a Prefect flow, independent ones in parallel [PRESET=…]
	@$(if $(PRESET),$(VOICE_FACTORY) preset $(PRESET) && $(BIN)/python -m pipeline.setup.prepare &&) $(VOICE_FACTORY) flow && $(VOICE_FACTORY) summary

experiment: setup  ## run other parameters in a separate clone: make experiment NAME=long SET="train.optimisation.steps=3000" [PRESET=…] [REV=HEAD]
	@$(VOICE_FACTORY) experiment "$$NAME" $(SET) $(if $(PRESET),--preset $(PRESET)) $(if $(REV),--rev $(REV))
experiment sweep: override export NAME := $(value NAME)

sweep: setup  ## run and rank many experiments: make sweep NAME=rates SPACE="train.optimisation.learning_rate=1e-3,2e-3" [SEEDS="1 2"] [OPTIONS=…]
	@$(VOICE_FACTORY) sweep "$$NAME" $(SPACE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PRESET),--preset $(PRESET)) $(OPTIONS)

serve: setup  ## start a Prefect server here, deploy all flows, start a worker [PORT=4200]
	@$(VOICE_FACTORY) serve $(if $(PORT),--port $(PORT))

deploy: $(READY)  ## deploy the flows to the server of PREFECT_API_URL; then `make worker` on every machine
	@$(VOICE_FACTORY) deploy

worker: setup  ## execute runs of the server of PREFECT_API_URL in this clone
	@$(VOICE_FACTORY) worker

ui-shot: setup  ## take pictures of the newest run in the UI of PREFECT_API_URL, with Chromium [OUT=docs]
	@$(VOICE_FACTORY) ui-shot --out "$(or $(OUT),docs)"

corpus-report: setup  ## write a page about the recordings, before training [OUT=page.html]
	@$(VOICE_FACTORY) corpus-report $(if $(OUT),"$(OUT)")

choose: $(READY)  ## make the best kept checkpoint the voice (see evaluate.checkpoint_utterances) [BY=cer|mos]
	@$(VOICE_FACTORY) choose $(if $(BY),--by $(BY))

say: $(READY)  ## speak with the trained voice: make say TEXT="Hello." [OUT=say.wav] [SPEAKER=…] [LANGUAGE=EN]
	@$(VOICE_FACTORY) say --text "$$TEXT" --out "$(or $(OUT),say.wav)" --language $(or $(LANGUAGE),EN) $(if $(SPEAKER),--speaker "$(SPEAKER)")
say: override export TEXT := $(value TEXT)

serve-voice: $(READY)  ## serve a page and an HTTP interface that speak with the voice [VOICE=voice] [PORT=8500]
	@$(VOICE_FACTORY) serve-voice --voice "$(or $(VOICE),voice)" --port $(or $(PORT),8500)

compare: $(READY)  ## compare voices of several revisions, with confidence: make compare A=REV B=REV [C=REV] [RATINGS="FILE …"] [OUT=comparison]
	@$(VOICE_FACTORY) compare "$(A)" "$(or $(B),workspace)" $(if $(C),"$(C)") --out "$(or $(OUT),comparison)" $(if $(RATINGS),--ratings $(RATINGS))
compare: A ?= HEAD

release: $(READY)  ## register the voice's next version and export it [VERSION=v1.2.0] [DRY_RUN=1]; LIST=1 lists the versions
	@$(VOICE_FACTORY) release $(if $(VERSION),--version $(VERSION)) $(if $(DRY_RUN),--dry-run) $(if $(LIST),--list)

summary: $(READY)  ## print what the last run did
	@$(VOICE_FACTORY) summary

test: setup  ## run the tests
	@$(BIN)/python -m pytest

test-all: setup  ## run the slow tests as well
	@$(BIN)/python -m pytest -m "slow or not slow"

check: $(READY)  ## check style, types and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup  ## run the benchmarks; results in bench/*.json
	@$(VOICE_FACTORY) bench

deps: $(READY)  ## write every stage's code dependencies into dvc.yaml
	@$(BIN)/python -m pipeline.setup.declare

gc: $(READY)  ## delete old reusable rows; later runs recompute them [GIGABYTES=20] [DAYS=60]; ALL=1: training states too
	@$(VOICE_FACTORY) gc $(if $(GIGABYTES),--max-gigabytes $(GIGABYTES)) $(if $(DAYS),--max-days $(DAYS)) $(if $(ALL),--all)

# The environment: a venv, one build of torch, then the lock files. Their packages are checked against hashes, except those
# of requirements-unhashed.lock.

LOCKS := requirements.lock requirements-pipeline.lock
UV = $(if $(filter uv,$(INSTALLER)),$(shell command -v uv || ls $(BIN)/uv 2>/dev/null))
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --no-compile
INSTALL = $(if $(UV),$(UV) --quiet pip install --python $(BIN)/python,$(PIP))
# uv does not read pip's settings of package sources.
comma := ,
export UV_FIND_LINKS ?= $(subst $(eval ) ,$(comma),$(PIP_FIND_LINKS))
$(if $(PIP_INDEX_URL),$(eval export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)))

$(BIN)/python:
	@for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    exec "$$python" -m venv $(if $(UV),--without-pip) $(VENV); fi; \
	done; echo "error: Python 3.11, 3.12 or 3.13 is required (tried: $(PYTHON)); set PYTHON=/path/to/python" >&2; exit 1
	$(if $(UV)$(filter pip,$(INSTALLER)),,@sed -n '/^uv==/,/[^\\]$$/p' requirements-pipeline.lock | $(PIP) --require-hashes --requirement /dev/stdin || \
	  echo "uv cannot be installed: using pip, which is slower" >&2)

$(READY): $(LOCKS) requirements-unhashed.lock | $(BIN)/python
	$(if $(TORCH_$(TORCH)),,$(error TORCH must be cpu or cuda, not $(TORCH)))
	@$(TORCH_$(TORCH))
	$(INSTALL) --no-deps --require-hashes $(addprefix --requirement ,$(LOCKS))
	$(INSTALL) --no-deps --requirement requirements-unhashed.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m dvc status -q >/dev/null 2>&1 || true  # compiles DVC's bytecode for callers that may not write it
	@echo $(TORCH) >$@
# Another build than the installed one is installed even if no lock file has changed.
ifneq ($(TORCH),$(shell cat $(READY) 2>/dev/null))
.PHONY: $(READY)
endif

TORCH_VERSION := $(shell sed -n 's/^torch==//p' requirements-unhashed.lock)
TORCH_INDEX := https://download.pytorch.org/whl/cpu
# Only the CPU build has the local version "+cpu". Local folders are tried before the network.
TORCH_cpu = $(INSTALL) --no-deps --no-index torch==$(TORCH_VERSION)+cpu 2>/dev/null || \
  UV_HTTP_RETRIES=1 PIP_RETRIES=1 $(INSTALL) --no-deps --index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)+cpu || \
  { echo "error: PIP_FIND_LINKS and $(TORCH_INDEX) have no torch $(TORCH_VERSION)+cpu for this Python (TORCH=cuda: several GB)" >&2; exit 1; }
# "===" does not match "+cpu". Run in /, because the tool.uv section of pyproject.toml removes the CUDA libraries.
TORCH_cuda = cd / && $(subst $(BIN),$(abspath $(BIN)),$(INSTALL)) torch===$(TORCH_VERSION)

.dvc/plots.html: $(READY)
	@$(BIN)/python -m pipeline.setup.offline_plots

ray: $(READY)  ## install Ray, for data stages on a cluster; on every node
	@$(INSTALL) --no-deps --require-hashes --requirement requirements-ray.lock

lock: $(READY)  ## write the lock files for pyproject.toml, with the versions they have: make lock [UPGRADE="name name"]
	@$(BIN)/python -m pipeline.setup.lock $(UPGRADE)

clean:  ## delete the environment and all outputs (recordings stay)
	rm -rf $(VENV) .rows .work voice reports metrics.json speed.json comparison dvc_plots $(addprefix data/,corpus resample clean_text spectrogram bert split)
