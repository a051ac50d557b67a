"""Word lists written as one string with spaces between the words."""


def as_words(listed: str) -> frozenset[str]:
    """Return the words of a space-separated list."""
    return frozenset(listed.split())
