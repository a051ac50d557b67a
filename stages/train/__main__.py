"""Run the train stage: `python -m stages.train --help`."""

from stages.common.command import run_stage
from stages.train.settings import TrainParams
from stages.train.stage import main

if __name__ == "__main__":
    run_stage(main, TrainParams, "train")
