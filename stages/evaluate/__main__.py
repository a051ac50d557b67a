"""Run the evaluate stage: `python -m stages.evaluate --help`."""

from stages.common.command import run_stage
from stages.evaluate.stage import EvaluateParams, main

if __name__ == "__main__":
    run_stage(main, EvaluateParams, "evaluate")
