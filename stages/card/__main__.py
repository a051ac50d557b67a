"""Run the card stage: `python -m stages.card --help`."""

from stages.card.stage import CardParams, main
from stages.common.command import run_stage

if __name__ == "__main__":
    run_stage(main, CardParams, "card")
