"""Console command `voice-factory`: one sub-command for each thing a user does.

A sub-command imports its module when it is called and passes its arguments to the module's `main(argv)`, which also
answers `--help`. `voice-factory --help` therefore imports neither torch nor Prefect.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from model.printable import error_line

HERE = Path(__file__).resolve().parents[1]


class Command(NamedTuple):
    """A sub-command; `function` is `module:name`, and `leading` are arguments placed before the user's."""

    name: str
    function: str
    help: str
    needs_project: bool = True
    leading: tuple[str, ...] = ()


COMMANDS = (
    Command("run", "pipeline.repro.run:main", "Run every stage whose inputs changed, then print the summary."),
    Command("flow", "pipeline.repro.flow:main", "Run the same stages as a Prefect flow, independent ones in parallel."),
    Command("preset", "pipeline.params.presets:main", "Write a preset's values into params.yaml."),
    Command("summary", "pipeline.repro.summary:main", "Print what the last run did."),
    Command("corpus-report", "stages.corpus.stage:report_main", "Write a page about the recordings, before training."),
    Command("explain", "stages.clean_text.stage:explain_main", "Show how a text is read: words, phones, tones.", False),
    Command("say", "model.inference.say:main", "Speak a text with a trained voice.", False),
    Command("serve-voice", "pipeline.serve.serve:main", "Serve a page and an HTTP interface that speak.", False),
    Command("compare", "pipeline.compare.compare:main", "Compare voices of several revisions, with confidence."),
    Command("choose", "pipeline.choose:main", "Make the best kept checkpoint the voice."),
    Command("experiment", "pipeline.experiments.flow:main", "Run other parameters in a separate clone."),
    Command("sweep", "pipeline.experiments.sweep:main", "Run and rank many experiments."),
    Command(
        "serve",
        "pipeline.deployments.worker:main",
        "Start a Prefect server, deploy the flows and execute their runs.",
        leading=("--server",),
    ),
    Command("deploy", "pipeline.deployments.deploy:main", "Deploy the flows to the server of PREFECT_API_URL."),
    Command("worker", "pipeline.deployments.worker:main", "Execute runs of that server in this clone."),
    Command("release", "pipeline.release:main", "Register the voice's next version and export it."),
    Command(
        "import-checkpoint",
        "model.checkpoints.published.importing:main",
        "Convert a Bert-VITS2 1.1 checkpoint to a voice.",
        False,
    ),
    Command(
        "export-checkpoint",
        "model.checkpoints.published.exporting:main",
        "Convert a voice to Bert-VITS2 1.1 checkpoints.",
        False,
    ),
    Command("export-onnx", "model.inference.export_onnx:main", "Export a voice as ONNX graphs.", False),
    Command("gc", "pipeline.setup.collect_garbage:main", "Delete reusable rows that are old or exceed a size."),
    Command("ui-shot", "pipeline.setup.ui_shot:main", "Take pictures of the newest run in the Prefect UI.", False),
    Command("bench", "bench.__main__:main", "Run the benchmarks."),
)


class ForwardingCommand(TyperCommand):
    """A command that parses no argument itself, not even `--help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep every argument for the callback."""
        ctx.args = list(args)
        return []


def build_app() -> typer.Typer:
    """Return the application with all sub-commands."""
    app = typer.Typer(
        help="Train, measure, compare and speak with voices. `voice-factory COMMAND --help` describes a command.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # importing rich costs more than everything else here
        pretty_exceptions_enable=False,
    )
    for command in COMMANDS:
        app.command(command.name, short_help=command.help, cls=ForwardingCommand, add_help_option=False)(
            _callback(command)
        )
    return app


def _callback(command: Command) -> Callable[[typer.Context], None]:
    def call(ctx: typer.Context) -> None:
        raise typer.Exit(run(command, ctx.args))

    return call


def run(command: Command, arguments: Sequence[str]) -> int:
    """Run a sub-command and return its exit status."""
    if command.needs_project and "--help" not in arguments and not is_project(Path.cwd()):
        parent = next(filter(is_project, Path.cwd().parents), None)
        remedy = f"change to {parent}" if parent else "change to the project's folder, which holds dvc.yaml"
        sys.stderr.write(error_line(f"{Path.cwd()} is not a project; {remedy}") + "\n")
        return 1
    module, _, name = command.function.partition(":")
    return getattr(importlib.import_module(module), name)([*command.leading, *arguments]) or 0


def is_project(folder: Path) -> bool:
    """Return whether a folder is a clone of the project."""
    return (folder / "dvc.yaml").is_file() and (folder / "pipeline").is_dir()


def main() -> None:
    """Run the command line with the code of the clone in the current folder, else with the installed code."""
    here = Path.cwd()
    if is_project(here) and here.resolve() != HERE:
        os.execv(sys.executable, [sys.executable, "-m", "pipeline.cli", *sys.argv[1:]])
    build_app()(prog_name="voice-factory")


if __name__ == "__main__":
    build_app()(prog_name="voice-factory")
