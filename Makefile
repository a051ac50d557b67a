# Everything a user does, one target each; every target sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PRESET ?=
# Bytecode is kept whatever the caller's shell says: without it every process would compile its libraries again.
export PYTHONDONTWRITEBYTECODE :=
export DVC_NO_ANALYTICS := true
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PATH := $(abspath $(BIN)):$(PATH)

# A preset may ask for other recordings.
SWITCH = $(if $(PRESET),$(BIN)/python -m pipeline.params.presets $(PRESET) && $(BIN)/python -m pipeline.setup.prepare &&)

.PHONY: help setup recordings run voice flow experiment sweep serve deploy worker ui-shot corpus-report choose say compare serve-voice release test test-all check bench preset summary deps gc ray clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements.lock requirements-pipeline.lock
	@set -e; python=$$(command -v $(PYTHON) || command -v python3 || true); \
	  "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 is needed (found: $${python:-none}); set PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock -r requirements-pipeline.lock
	@$(BIN)/python -m dvc status -q >/dev/null 2>&1 || true  # leaves DVC compiled for callers that may not write bytecode
	@touch $@

.dvc/plots.html: $(VENV)/.ready
	@$(BIN)/python -m pipeline.setup.offline_plots

setup: $(VENV)/.ready .dvc/plots.html  ## virtual environment, locked packages, recordings, git and DVC state
	@git rev-parse --verify -q HEAD >/dev/null || { git init -q . && git add -A && git commit -qm "Start"; }
	@$(BIN)/python -m pipeline.setup.prepare

recordings: $(VENV)/.ready  ## the default recordings, fetched with apt into data/recordings
	@$(BIN)/python -m pipeline.corpora.asterisk

preset: $(VENV)/.ready  ## write a preset into params.yaml: make preset PRESET=smoke|laptop|voice|trilingual|reference
	@$(BIN)/python -m pipeline.params.presets $(PRESET)

run: setup  ## the main job: every stage that changed, then the summary (PRESET=… switches first)
	@$(SWITCH) $(BIN)/python -m dvc repro && $(BIN)/python -m pipeline.repro.summary

voice: setup  ## the laptop's best voice: the run above with the preset voice, an hour of two CPU cores
	@$(MAKE) --no-print-directory run PRESET=voice

flow: setup  ## the same DAG as a Prefect flow, independent stages side by side
	@$(SWITCH) $(BIN)/python -m pipeline.repro.flow && $(BIN)/python -m pipeline.repro.summary

experiment: setup  ## other parameters in a clone of its own: make experiment NAME=long SET="train.optimisation.steps=3000" [PRESET=…] [REV=HEAD]
	@$(BIN)/python -m pipeline.experiments.flow "$$NAME" $(SET) $(if $(PRESET),--preset $(PRESET)) $(if $(REV),--rev $(REV))
experiment sweep: override export NAME := $(value NAME)

sweep: setup  ## many experiments, ranked: make sweep NAME=rates SPACE="train.optimisation.learning_rate=1e-3,2e-3" [SEEDS="1 2"] [OPTIONS=…]
	@$(BIN)/python -m pipeline.experiments.sweep "$$NAME" $(SPACE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PRESET),--preset $(PRESET)) $(OPTIONS)

serve: setup  ## a Prefect server on this machine with everything deployed, and a worker: make serve [PORT=4200]
	@$(BIN)/python -m pipeline.deployments.worker --server $(if $(PORT),--port $(PORT))

deploy: $(VENV)/.ready  ## the flows onto the server of PREFECT_API_URL; then make worker on every machine
	@$(BIN)/python -m pipeline.deployments.deploy

worker: setup  ## do the runs of the server of PREFECT_API_URL in this clone
	@$(BIN)/python -m pipeline.deployments.worker

ui-shot: setup  ## pictures of the newest finished run in the UI of PREFECT_API_URL (needs Chromium): make ui-shot [OUT=docs]
	@$(BIN)/python -m pipeline.setup.ui_shot --out "$(or $(OUT),docs)"

corpus-report: setup  ## a page about the recordings before anything is trained: make corpus-report [OUT=page.html]
	@$(BIN)/python -m stages.corpus --report $(if $(OUT),"$(OUT)")

choose: $(VENV)/.ready  ## make the best kept checkpoint the voice (see evaluate.checkpoint_utterances): make choose [BY=cer|mos]
	@$(BIN)/python -m pipeline.choose $(if $(BY),--by $(BY))

say: $(VENV)/.ready  ## speak with the trained voice: make say TEXT="Hello." [OUT=say.wav] [SPEAKER=…] [LANGUAGE=EN]
	@$(BIN)/python -m model.inference.say --text "$$TEXT" --out "$(or $(OUT),say.wav)" --language $(or $(LANGUAGE),EN) $(if $(SPEAKER),--speaker "$(SPEAKER)")
say: override export TEXT := $(value TEXT)

serve-voice: $(VENV)/.ready  ## a page and an address that speak with the trained voice: make serve-voice [VOICE=voice] [PORT=8500]
	@$(BIN)/python -m pipeline.serve --voice "$(or $(VOICE),voice)" --port $(or $(PORT),8500)

compare: $(VENV)/.ready  ## which voice is better, and how sure that is: make compare A=REV B=REV [C=REV] [RATINGS="FILE …"] [OUT=comparison]
	@$(BIN)/python -m pipeline.compare.compare "$(A)" "$(or $(B),workspace)" $(if $(C),"$(C)") --out "$(or $(OUT),comparison)" $(if $(RATINGS),--ratings $(RATINGS))
compare: A ?= HEAD

release: $(VENV)/.ready  ## register the voice's next version and export it: make release [VERSION=v1.2.0] [DRY_RUN=1] [LIST=1: the versions]
	@$(BIN)/python -m pipeline.release $(if $(VERSION),--version $(VERSION)) $(if $(DRY_RUN),--dry-run) $(if $(LIST),--list)

summary: $(VENV)/.ready  ## what the last run did
	@$(BIN)/python -m pipeline.repro.summary

test: setup  ## the tests, with linters and contracts (under 15 minutes on two cores)
	@$(BIN)/python -m pytest

test-all: setup  ## the slow tests as well
	@$(BIN)/python -m pytest -m "slow or not slow"

check: $(VENV)/.ready  ## linter, types and import contracts alone
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup  ## benchmarks: our way beside the usual way, in one run; results in bench/*.json
	@$(BIN)/python -m bench

deps: $(VENV)/.ready  ## write every stage's code dependencies into dvc.yaml
	@$(BIN)/python -m pipeline.setup.declare

gc: $(VENV)/.ready  ## bound the store of reusable rows: make gc [GIGABYTES=20] [DAYS=60] [ALL=1: training states too]; costs only time
	@$(BIN)/python -m pipeline.setup.collect_garbage $(if $(GIGABYTES),--max-gigabytes $(GIGABYTES)) $(if $(DAYS),--max-days $(DAYS)) $(if $(ALL),--all)

ray: $(VENV)/.ready  ## Ray, for data stages on a cluster (see the README); on every node
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements-ray.lock

clean:  ## delete the environment and all outputs (recordings stay)
	rm -rf $(VENV) .rows .work voice reports metrics.json speed.json comparison dvc_plots $(addprefix data/,corpus resample clean_text spectrogram bert split)
