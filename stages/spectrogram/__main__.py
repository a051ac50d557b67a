"""Run the spectrogram stage: `python -m stages.spectrogram --help`."""

from stages.common.command import run_stage
from stages.spectrogram.stage import SpectrogramParams, main

if __name__ == "__main__":
    run_stage(main, SpectrogramParams, "spectrogram")
