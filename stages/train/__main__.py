"""Run the train stage: `python -m stages.train --help`."""

from stages.common.command import run_stage
from stages.train.stage import TrainParams, main

if __name__ == "__main__":
    run_stage(main, TrainParams, "train")
