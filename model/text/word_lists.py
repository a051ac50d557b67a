"""Lists of words as code holds them: one string, with spaces between the words."""


def as_words(listed: str) -> frozenset[str]:
    """Return the words of a list that spaces separate."""
    return frozenset(listed.split())
