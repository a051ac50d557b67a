"""The recordings of benchmarks, and the changes of a project that `incremental` measures."""

import csv
from pathlib import Path

from bench.harness.recordings import distinct, latin, pinyin
from bench.incremental import Corpus, rows_computed
from model.text.registry import get_front_end


def test_texts_of_five_languages_become_latin_letters_that_the_english_front_end_reads():
    texts = [
        "Нажмите решётку.",
        "Veuillez laissez votre message après l’étoile…",
        "¿Contraseña?",
        "«Perché» – sì",
        "Объём",
    ]
    assert [latin(text) for text in texts] == [
        "nazhmite reshyotku.",
        "Veuillez laissez votre message apres l'etoile.",
        "Contrasena?",
        '"Perche" - si',
        "obyom",
    ]
    assert pinyin("吕不") == "lv bu"
    front_end = get_front_end("EN")
    assert all(front_end.to_phones(front_end.normalise(latin(text))).phones for text in texts)


def test_a_text_that_occurs_twice_is_followed_by_the_clips_name():
    rows = [
        ("carlo/digits/1.g722", "carlo", "uno"),
        ("june/b-c.g722", "june", "un"),
        ("allison-es/digits/1f_n.g722", "allison-es", "Uno"),
    ]
    assert [text for _, _, text in distinct(rows)] == ["Uno", "uno, carlo digits 1.", "un"]


def test_rows_are_counted_from_the_output_of_the_stages():
    output = """Running stage 'corpus':
    Running stage 'bert':
    12:00:00 INFO stages.rows.engine: bert: 30 in all, 2 rows to compute, 28 kept from earlier runs
    Running stage 'split':
    """
    assert rows_computed(output) == {"corpus": None, "bert": 2}


def read_corpus(folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return texts and recordings by path."""
    with (folder / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        texts = {row["audio"]: row["text"] for row in csv.DictReader(stream)}
    return texts, {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.g722")}


def write_corpus(folder: Path, n: int) -> None:
    """Write `n` recordings, one of them too short to be changed."""
    (folder / "a").mkdir(parents=True)
    for number in range(n):
        (folder / f"a/{number}.g722").write_bytes(f"{number:04d}".encode() * (10 if number == 0 else 4_000))
    lines = [f"a/{number}.g722,a,EN,Number {number}." for number in range(n)]
    (folder / "transcripts.csv").write_text("\n".join(["audio,speaker,language,text", *lines]), encoding="utf-8")


def test_each_change_of_the_corpus_changes_only_what_it_names(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write_corpus(source, 200)
    write_corpus(out, 200)
    corpus = Corpus(source, out)
    texts, sounds = read_corpus(out)
    assert len(texts) == 197 and texts.keys() == sounds.keys()

    def changed(change):
        nonlocal texts, sounds
        before, (texts, sounds) = (texts, sounds), (change(), read_corpus(out))[1]
        return tuple(
            {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
            for old, new in zip(before, (texts, sounds), strict=True)
        )

    added_text, added_sound = changed(corpus.add_one)
    assert added_text == added_sound and len(added_text) == 1 and len(texts) == 198
    edited_text, edited_sound = changed(corpus.change_transcript)
    assert len(edited_text) == 1 and not edited_sound
    replaced_text, replaced_sound = changed(corpus.replace_recording)
    assert not replaced_text and len(replaced_sound) == 1 and "a/0.g722" not in replaced_sound
    more_text, more_sound = changed(corpus.add_share)
    assert more_text == more_sound and len(more_text) == 2 and len(texts) == 200
    fewer_text, fewer_sound = changed(corpus.delete_share)
    assert fewer_text == fewer_sound and len(fewer_text) == 2 and len(texts) == 198 == len(corpus.rows)
