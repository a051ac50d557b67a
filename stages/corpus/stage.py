"""Corpus stage: recordings and transcripts become one manifest row per utterance. Sources are never written to."""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Sequence
from pathlib import Path

from stages.common import manifests
from stages.common.command import configure_logging, load_section, run_command
from stages.common.errors import StageError
from stages.common.files import output_folder
from stages.corpus.params import CorpusParams
from stages.corpus.scan import scan_corpus
from stages.rows.outcomes import outcome_writer

logger = logging.getLogger(__name__)

DEFAULT_REPORT = Path("reports/corpus.html")


def main(out: Path, params: CorpusParams) -> None:
    """Find, hash, measure and check every recording and pair it with its transcript.

    Reads the folder corpus.recordings and the file corpus.transcripts (never writes to either);
    writes corpus.parquet and rejects.parquet. With --report [PAGE] it writes an HTML page about the corpus instead.
    """
    facts = {"recordings": params.recordings, "source_note": params.source_note}
    n_kept, seconds = 0, 0.0
    with (
        output_folder(out) as temporary,
        scan_corpus(params) as scan,
        outcome_writer(
            temporary,
            "corpus",
            manifests.CORPUS,
            facts,
            n_input=scan.n_input,
            max_reject_share=params.max_reject_share,
        ) as writer,
    ):
        for utterance in scan:
            if utterance.rejected:
                writer.reject(utterance.utterance_id, *utterance.rejected)
            elif utterance.row:
                writer.keep(utterance.row)
                n_kept += 1
                seconds += utterance.row["n_samples"] / utterance.row["sample_rate_hz"]
    logger.info("corpus: %d utterances, %.1f minutes kept, %d rejected", n_kept, seconds / 60, scan.n_input - n_kept)


def report(page: Path, params: CorpusParams) -> None:
    """Write a page about the corpus: distributions, rejects by reason, extreme values.

    Neither the sources nor the stage's output are changed.
    """
    from stages.corpus.report import ReportContext, write_report  # here: matplotlib and pandas are slow to import

    if page.resolve().is_relative_to(Path(params.recordings).resolve()):
        raise StageError(None, page, "lies in the folder of recordings, which is never written to; name another page")
    with scan_corpus(params) as scan:
        utterances = list(scan)
    rows = [utterance.row for utterance in utterances if utterance.row]
    rejects = [manifests.reject(item.utterance_id, "corpus", *item.rejected) for item in utterances if item.rejected]
    facts = {"Recordings": params.recordings, "Transcripts": params.transcripts, "Source": params.source_note}
    written = write_report(
        page,
        manifests.table_from_rows(rows, manifests.CORPUS).to_pandas(),
        manifests.table_from_rows(rejects, manifests.REJECTS).to_pandas(),
        ReportContext(facts, params.quality, params.max_reject_share),
    )
    logger.info("corpus report: %s", written.resolve())


def report_main(argv: Sequence[str] | None = None) -> None:
    """Write the report that a command line asks for."""
    parser = argparse.ArgumentParser(prog="voice-factory corpus-report", description=inspect.getdoc(report))
    parser.add_argument(
        "page",
        nargs="?",
        type=Path,
        default=DEFAULT_REPORT,
        metavar="PAGE",
        help=f"an HTML file, or a folder for its index.html (default: {DEFAULT_REPORT})",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="PATH")
    arguments = parser.parse_args(argv)
    configure_logging()
    run_command(lambda: report(arguments.page, load_section(arguments.params, "corpus", CorpusParams)), "corpus report")


def report_from_command_line() -> bool:
    """Run `report_main` if the command line has `--report [PAGE]`, and return whether it did."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--report", nargs="?", const=str(DEFAULT_REPORT))
    asked, others = parser.parse_known_args()
    if asked.report is None:
        return False
    report_main([*others, "--", asked.report])
    return True
