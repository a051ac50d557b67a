"""Output of every language front end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhoneSequence:
    """Phones of one utterance, grouped by word; no pads.

    words: one per entry of word2ph; each pause mark is a word. word_spans: character range [start, end) of each word in
    the normalised text, in order. phones, tones: language-local, equally long. word2ph: phones per word, ≥ 1.
    languages: one code per word; empty if all words are in the text's language.
    """

    words: tuple[str, ...]
    word_spans: tuple[tuple[int, int], ...]
    phones: tuple[str, ...]
    tones: tuple[int, ...]
    word2ph: tuple[int, ...]
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.word_spans) == len(self.word2ph):
            raise ValueError(
                f"words {len(self.words)}, spans {len(self.word_spans)}, counts {len(self.word2ph)} differ"
            )
        if self.languages and len(self.languages) != len(self.words):
            raise ValueError(f"words {len(self.words)}, languages {len(self.languages)} differ")
        if not len(self.phones) == len(self.tones) == sum(self.word2ph):
            raise ValueError(f"phones {len(self.phones)}, tones {len(self.tones)}, by words {sum(self.word2ph)} differ")

    @property
    def phone_languages(self) -> tuple[str, ...]:
        """Return one language code per phone; empty if `languages` is."""
        return tuple(
            language for language, count in zip(self.languages, self.word2ph, strict=False) for _ in range(count)
        )
