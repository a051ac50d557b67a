"""Limit the age and size of the row store (`make gc`).

Rows lie in packs, and an entry is either correct or absent, so a pack can be deleted at any time: a run that has it
open keeps reading it, and a run that looks for it later recomputes its rows. Packs are deleted oldest first until the
remaining ones are within the limits.
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
    """Return the packs of every stage's store, least recently used first."""
    packs = []
    for path in root.glob("*/*.pack"):
        try:
            status = path.stat()
        except FileNotFoundError:  # deleted by a concurrent collection
            continue
        packs.append(Pack(path, status.st_size, status.st_mtime))
    return sorted(packs, key=lambda pack: (pack.used_at, pack.path))


def surplus_packs(packs: Sequence[Pack], max_bytes: float, keep_since: float) -> list[Pack]:
    """Return the packs to delete: those unused since `keep_since` (Unix seconds), and the oldest beyond `max_bytes`.

    `packs` are in the order of `find_packs`.
    """
    left = sum(pack.n_bytes for pack in packs)
    surplus = []
    for pack in packs:
        if pack.used_at >= keep_since and left <= max_bytes:
            break
        surplus.append(pack)
        left -= pack.n_bytes
    return surplus


def collect_garbage(max_gigabytes: float, max_days: float, everything: bool) -> None:
    """Delete surplus packs; with `everything` the whole store and the training states too."""
    if max_gigabytes < 0 or max_days < 0:
        raise ParamsError("--max-gigabytes and --max-days: expected numbers of at least 0")
    root = store_root()
    if everything:
        for folder in (root, work_root()):
            shutil.rmtree(folder, ignore_errors=True)
        logger.info("deleted %s and %s; for DVC's own cache use dvc gc --workspace", root, work_root())
        return
    packs = find_packs(root)
    deleted = surplus_packs(packs, max_gigabytes * GIGABYTE, time.time() - max_days * SECONDS_PER_DAY)
    for pack in deleted:
        pack.path.unlink(missing_ok=True)
    n_deleted, n_all = sum(pack.n_bytes for pack in deleted), sum(pack.n_bytes for pack in packs)
    logger.info(
        "%s: deleted %d of %d packs, %.3f of %.3f GB; make gc ALL=1 deletes everything, training states too",
        root,
        len(deleted),
        len(packs),
        n_deleted / GIGABYTE,
        n_all / GIGABYTE,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Delete what a command line asks for."""
    parser = argparse.ArgumentParser(
        prog="voice-factory gc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-gigabytes", type=float, default=20.0, help="maximum size of the store (default: 20)")
    parser.add_argument("--max-days", type=float, default=60.0, help="maximum days that a pack is unused (default: 60)")
    parser.add_argument(
        "--all", action="store_true", dest="everything", help="delete all reusable rows and all training states"
    )
    options = parser.parse_args(argv)
    configure_logging()
    run_command(lambda: collect_garbage(options.max_gigabytes, options.max_days, options.everything), "gc")


if __name__ == "__main__":
    main()
