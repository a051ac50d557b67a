"""Run the bert stage: `python -m stages.bert --help`."""

from stages.bert.stage import BertParams, main
from stages.common.command import run_stage

if __name__ == "__main__":
    run_stage(main, BertParams, "bert")
