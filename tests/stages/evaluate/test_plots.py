import csv

from stages.evaluate.plots import write_plots
from tests.stages.speech_sounds import make_row


def read(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_utterance_and_version_is_in_the_plot_data(tmp_path):
    rows = [
        make_row(utterance_id='say "hi", ada', mcd_db=5.0, cer=0.1),
        make_row(utterance_id="two", mcd_db=float("nan"), cer=0.3),
    ]
    write_plots(tmp_path, rows)
    utterances = read(tmp_path / "utterances.csv")
    assert [line["utterance_id"] for line in utterances] == ['say "hi", ada', "two"]
    assert [line["mcd_db"] for line in utterances] == ["5", ""]
    assert len(read(tmp_path / "versions.csv")) == 6
    assert sum(int(line["utterances"]) for line in read(tmp_path / "cer_histogram.csv")) == 2
    assert sum(int(line["utterances"]) for line in read(tmp_path / "mcd_db_histogram.csv")) == 1


def test_a_figure_nobody_has_gives_an_empty_histogram(tmp_path):
    write_plots(tmp_path, [make_row(mcd_db=float("nan"))])
    assert read(tmp_path / "mcd_db_histogram.csv") == []
