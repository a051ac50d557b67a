"""Keep the row store within bounds: `python -m pipeline.setup.collect_garbage` (`make gc`).

Rows lie in packs, and an entry is right or absent, so a pack may go at any time: a run that had it open reads on, one
that looks for
it later computes its rows again. Packs go oldest first, until those left are few and young enough.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.common.command import configure_logging, logger, run_command
from stages.common.errors import ParamsError
from stages.common.files import work_root
from stages.rows.store import store_root

GIGABYTE = 1e9
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True)
class Pack:
    """A pack of the store; `used_at` is when it was last written or read from (Unix seconds)."""

    path: Path
    n_bytes: int
    used_at: float


def find_packs(root: Path) -> list[Pack]:
    """Return the packs of every stage's store, the longest unused first."""
    packs = []
    for path in root.glob("*/*.pack"):
        try:
            facts = path.stat()
        except FileNotFoundError:  # another collection was faster
            continue
        packs.append(Pack(path, facts.st_size, facts.st_mtime))
    return sorted(packs, key=lambda pack: (pack.used_at, pack.path))


def surplus(packs: Sequence[Pack], max_bytes: float, oldest: float) -> list[Pack]:
    """Return the packs to delete of those given in order: unused since `oldest`, or beyond `max_bytes` in all."""
    left = sum(pack.n_bytes for pack in packs)
    chosen = []
    for pack in packs:
        if pack.used_at >= oldest and left <= max_bytes:
            break
        chosen.append(pack)
        left -= pack.n_bytes
    return chosen


def main(max_gigabytes: float, max_days: float, everything: bool) -> None:
    """Delete surplus packs; with `everything` the whole store and the training states too."""
    if max_gigabytes < 0 or max_days < 0:
        raise ParamsError("--max-gigabytes and --max-days: expected numbers of at least 0")
    root = store_root()
    if everything:
        for folder in (root, work_root()):
            shutil.rmtree(folder, ignore_errors=True)
        logger.info("deleted %s and %s; DVC's own cache: dvc gc --workspace", root, work_root())
        return
    packs = find_packs(root)
    gone = surplus(packs, max_gigabytes * GIGABYTE, time.time() - max_days * SECONDS_PER_DAY)
    for pack in gone:
        pack.path.unlink(missing_ok=True)
    n_gone, n_all = sum(pack.n_bytes for pack in gone), sum(pack.n_bytes for pack in packs)
    logger.info(
        "%s: deleted %d of %d packs, %.3f of %.3f GB; all of it, and the training states: make gc ALL=1",
        root,
        len(gone),
        len(packs),
        n_gone / GIGABYTE,
        n_all / GIGABYTE,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.setup.collect_garbage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--max-gigabytes", type=float, default=20.0, help="size that the store may keep (default: 20)")
    parser.add_argument("--max-days", type=float, default=60.0, help="days that a pack may go unused (default: 60)")
    parser.add_argument(
        "--all", action="store_true", dest="everything", help="delete every reusable row and every training state"
    )
    arguments = parser.parse_args()
    configure_logging()
    run_command(lambda: main(arguments.max_gigabytes, arguments.max_days, arguments.everything), "gc")
