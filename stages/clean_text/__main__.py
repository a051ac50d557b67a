"""Run the clean_text stage: `python -m stages.clean_text --help`."""

from stages.clean_text.stage import CleanTextParams, explain_from_command_line, main
from stages.common.command import run_stage

if __name__ == "__main__" and not explain_from_command_line():
    run_stage(main, CleanTextParams, "clean_text")
