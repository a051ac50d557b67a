"""Run the split stage: `python -m stages.split --help`."""

from stages.common.command import run_stage
from stages.split.stage import SplitParams, main

if __name__ == "__main__":
    run_stage(main, SplitParams, "split")
