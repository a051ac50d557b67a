"""The clips that costs are measured on: texts that one front end reads, no two alike; and what counts as a change's cost."""

import csv

import numpy as np

from bench.incremental import Corpus, concerned_bytes, rows_computed
from bench.harness.recordings import distinct, latin, pinyin
from model.text.front_end import get_front_end
from stages.common.shards import shard_count, shard_hash, shard_path


def test_texts_of_five_languages_become_latin_letters_that_the_english_front_end_reads():
    texts = ["Нажмите решётку.", "Veuillez laissez votre message après l’étoile…", "¿Contraseña?", "«Perché» – sì", "Объём"]
    assert [latin(text) for text in texts] == [
        "nazhmite reshyotku.", "Veuillez laissez votre message apres l'etoile.", "Contrasena?", '"Perche" - si', "obyom",
    ]  # fmt: skip
    assert pinyin("吕不") == "lv bu"
    front_end = get_front_end("EN")
    assert all(front_end.to_phones(front_end.normalise(latin(text))).phones for text in texts)


def test_a_text_that_another_clip_has_gets_the_clips_name():
    rows = [("carlo/digits/1.g722", "carlo", "uno"), ("june/b-c.g722", "june", "un"), ("allison-es/digits/1f_n.g722", "allison-es", "Uno")]
    assert [text for _, _, text in distinct(rows)] == ["Uno", "uno, carlo digits 1.", "un"]


def test_rows_are_counted_from_what_the_stages_say():
    output = """Running stage 'corpus':
    Running stage 'bert':
    12:00:00 INFO stages.common.rows: bert: 30 in all, 2 rows to compute, 28 kept from earlier runs
    Running stage 'split':
    """
    assert rows_computed(output, corpus_rows=31) == {"corpus": 31, "bert": 2}


def make_corpus(tmp_path, n=200):
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    names = [f"a/{number}" for number in range(n)]
    for name in names:
        (source / f"{name}.g722").write_bytes(name.encode())
    lines = ["audio,speaker,language,text", *(f"{name}.g722,a,EN,Number {name}." for name in names)]
    (source / "transcripts.csv").write_text("\n".join(lines), encoding="utf-8")
    return Corpus(source, set(names), tmp_path / "out"), tmp_path / "out"


def listed(out):
    with (out / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        return {row["audio"]: row["text"] for row in csv.DictReader(stream)}


def test_changes_of_the_corpus_are_those_that_they_say(tmp_path):
    corpus, out = make_corpus(tmp_path)

    def recordings():
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.g722")}

    texts, sounds = listed(out), recordings()
    assert len(texts) == 197 and sounds.keys() == texts.keys()
    (one,) = corpus.add_one()
    assert listed(out).keys() - texts.keys() == {f"{one}.g722"} == recordings().keys() - sounds.keys()
    texts, sounds = listed(out), recordings()
    (renamed,) = corpus.change_transcript()
    assert [audio for audio, text in listed(out).items() if text != texts[audio]] == [f"{renamed}.g722"] and recordings() == sounds
    (replaced,) = corpus.replace_recording()
    assert [audio for audio, content in recordings().items() if content != sounds[audio]] == [f"{replaced}.g722"]
    added = corpus.add()
    assert len(added) == 2 and listed(out).keys() - texts.keys() == {f"{name}.g722" for name in added} == recordings().keys() - sounds.keys()
    gone = {f"{name}.g722" for name in corpus.delete()}
    assert len(gone) == 2 and not gone & listed(out).keys() and not gone & recordings().keys() and corpus.n_rows == 198


def test_the_bytes_that_may_change_are_the_shards_of_the_utterances_and_the_manifests(tmp_path):
    n_shards = shard_count(198)
    for shard in range(n_shards):
        path = shard_path(tmp_path / "bert", shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(np.full(100 + shard, 1, dtype=np.uint8)))
    (tmp_path / "bert" / "bert.parquet").write_bytes(b"manifest")
    expected = 100 + shard_hash("a/1") % n_shards + len(b"manifest")
    assert concerned_bytes(tmp_path, ["bert"], ["a/1", "a/1"], 198) == expected
