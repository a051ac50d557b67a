"""Write the lock files for pyproject.toml with uv (`make lock`). Versions stay, except those of packages to upgrade.

Every stage depends on requirements.lock, so that file leaves out what no stage imports; requirements-pipeline.lock has
it, with the tools of development. The lock files continue each other: none repeats a package of one before it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

STAGES, PIPELINE, RAY, TRILINGUAL = (
    Path(f"requirements{suffix}.lock") for suffix in ("", "-pipeline", "-ray", "-trilingual")
)
UNHASHED = Path("requirements-unhashed.lock")  # written by hand
PYPROJECT = Path("pyproject.toml")
PIPELINE_ONLY = ("fastapi", "optuna", "prefect", "uvicorn", "vl-convert-python")
# The trilingual corpus was read without this dependency of pyopenjtalk-plus; its pronunciations stay as they are.
TRILINGUAL_OMITTED = "sudachidict-core"


def locked_packages(lock: Path) -> list[str]:
    """Return the names of the packages in a lock file."""
    return re.findall(r"^([a-z0-9-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)


def _compile(source: str, out: Path, *options: str, stdin: Sequence[str] = ()) -> None:
    command = ["uv", "--quiet", "pip", "compile", "--universal", "--generate-hashes", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", *options]
    subprocess.run([*command, source, "--output-file", str(out)], input="\n".join(stdin), text=True, check=True)


def _after(*locks: Path) -> Iterator[str]:
    """Yield options that keep the versions of other lock files and leave their packages out."""
    for lock in locks:
        yield from ("--constraint", str(lock))
        for name in locked_packages(lock):
            yield from ("--no-emit-package", name)


def write_locks(upgrade: Sequence[str]) -> None:
    """Write all lock files; packages in `upgrade` get their newest versions."""
    common = [option for name in upgrade for option in ("--upgrade-package", name)]
    project = [*common, *_after(UNHASHED), "--extra", "perceptual"]
    _compile(str(PYPROJECT), STAGES, *project, "--excludes", "/dev/stdin", stdin=PIPELINE_ONLY)
    unhashed = re.findall(r"^[a-z].*==.*", UNHASHED.read_text(encoding="utf-8"), re.MULTILINE)
    with STAGES.open("a", encoding="utf-8") as stream:
        stream.writelines(
            f"{line}\n" for line in (f"# Without hashes, in {UNHASHED}:", *(f"# {pin}" for pin in unhashed))
        )
    _compile(str(PYPROJECT), PIPELINE, *project, "--extra", "dev", *_after(STAGES))
    _compile(str(PYPROJECT), RAY, *project, "--extra", "dev", "--extra", "ray", *_after(STAGES, PIPELINE))
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    _compile(
        "-",
        TRILINGUAL,
        *common,
        "--constraint",
        str(UNHASHED),
        "--no-emit-package",
        TRILINGUAL_OMITTED,
        stdin=extras["trilingual"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the lock files; an error of uv, which uv prints, gives exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.setup.lock", description=write_locks.__doc__)
    parser.add_argument("upgrade", nargs="*", metavar="PACKAGE", help="package to upgrade")
    try:
        write_locks(parser.parse_args(argv).upgrade)
    except subprocess.CalledProcessError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
