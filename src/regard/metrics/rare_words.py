"""How rare the words of a text are, for scores by rarity.

A word is rare where the training texts have it fewer than five times: the threshold of `min_count`
in word2vec (Mikolov et al. 2013), below which a word has too few examples. Where the training texts
are not at hand, the tokens of a word are counted: a vocabulary of subwords splits what was rare in
the text that it was built on (Sennrich, Haddow & Birch 2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from regard.metrics.words import split_words

RARE = 5
"""A word that occurs fewer times in the training texts is rare."""


def rare_word_percent(texts: Sequence[str], training_texts: Iterable[str]) -> list[int]:
    """Return the fraction of the words of each text that training had fewer than five times.

    Args:
        texts: One a row.
        training_texts: All texts of training.

    Returns:
        0 to 100, rounded; 0 for a text without words.

    >>> rare_word_percent(["a cat", "a b c", ""], ["a cat"] * 5)
    [0, 67, 0]
    """
    counts = Counter(word for text in training_texts for word in split_words(text))
    percents = []
    for text in texts:
        words = split_words(text)
        num_rare = sum(counts[word] < RARE for word in words)
        percents.append(round(100 * num_rare / max(1, len(words))))
    return percents


def tokens_per_hundred_words(texts: Sequence[str], num_tokens: Sequence[int]) -> list[int]:
    """Return how many tokens a hundred words of each text have; a text without words has 0.

    >>> tokens_per_hundred_words(["a cat", ""], [3, 1])
    [150, 0]
    """
    rows = zip(texts, num_tokens, strict=True)
    words = [(len(split_words(text)), count) for text, count in rows]
    return [round(100 * count / number) if number else 0 for number, count in words]
