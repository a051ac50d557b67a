"""Run the resample stage: `python -m stages.resample --help`."""

from stages.common.command import run_stage
from stages.resample.stage import ResampleParams, main

if __name__ == "__main__":
    run_stage(main, ResampleParams, "resample")
