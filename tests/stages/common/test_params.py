"""Parameters: a section of params.yaml becomes validated settings, or one line says why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from model.settings import Settings
from stages.common.command import load_section
from stages.common.errors import ParamsError


@dataclass(frozen=True)
class Filter(Settings):
    rate: float
    names: tuple[str, ...]


def test_a_section_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("one: {rate: 2, names: [x]}\nother: 1\n", encoding="utf-8")
    assert load_section(path, "one", Filter) == Filter(2.0, ("x",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("one: [", "not valid YAML"),
        ("- 1", "expected sections of parameters, found list"),
        ("", "expected sections of parameters, found NoneType"),
        ("two: 1\nthree: 2", "section 'one' is missing; sections found: three, two"),
        ("one:", "one: should be a mapping, found None"),
        ("one: {rate: x}", "one: rate should be a valid number, found 'x'; names is missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_on_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        load_section(path, "one", Filter)
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)
