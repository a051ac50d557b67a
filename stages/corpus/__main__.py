"""Run the corpus stage: `python -m stages.corpus --help`."""

from stages.common.command import run_stage
from stages.corpus.params import CorpusParams
from stages.corpus.stage import main, report_from_command_line

if __name__ == "__main__" and not report_from_command_line():
    run_stage(main, CorpusParams, "corpus")
