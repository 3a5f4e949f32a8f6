"""Aligns a text with its label: which characters were substituted, inserted and left out."""

from collections.abc import Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """A position of an alignment."""

    text: str  # empty: the text lacks the label's item (a deletion)
    label: str  # empty: the text has an item too many (an insertion)


class EditCounts(NamedTuple):
    """Numbers of edits that turn the label into the text."""

    insertions: int
    deletions: int
    substitutions: int


def align(text: Sequence[str], label: Sequence[str]) -> list[Pair]:
    """Returns an alignment with the fewest edits; among those, a substitution precedes a deletion and an insertion.

    Args: text, label: sequences of non-empty str, such as characters or words.
    """
    start, shorter = 0, min(len(text), len(label))
    while start < shorter and text[start] == label[start]:
        start += 1
    end = 0
    while end < shorter - start and text[-1 - end] == label[-1 - end]:
        end += 1
    pairs = _align(text[start:len(text) - end], label[start:len(label) - end])
    return [*map(Pair, text[:start], label[:start]), *pairs,
            *map(Pair, text[len(text) - end:], label[len(label) - end:])]


def edit_counts(pairs: Sequence[Pair]) -> EditCounts:
    """Counts the edits of an alignment."""
    insertions = sum(not pair.label for pair in pairs)
    deletions = sum(not pair.text for pair in pairs)
    return EditCounts(insertions, deletions, sum(a != b for a, b in pairs) - insertions - deletions)


def _align(text, label):
    """Returns the Pairs of `align`, in time and memory of len(text) x len(label)."""
    costs = _costs(text, label)
    row, column, pairs = len(text), len(label), []
    while row or column:
        here = costs[row][column]
        if row and column and here == costs[row - 1][column - 1] + (text[row - 1] != label[column - 1]):
            row, column = row - 1, column - 1
            pairs.append(Pair(text[row], label[column]))
        elif column and here == costs[row][column - 1] + 1:
            column -= 1
            pairs.append(Pair("", label[column]))
        else:
            row -= 1
            pairs.append(Pair(text[row], ""))
    return pairs[::-1]


def _costs(text, label):
    """Returns the edit distances of all prefixes: [len(text) + 1][len(label) + 1]."""
    costs = [list(range(len(label) + 1))]
    for row, item in enumerate(text, 1):
        above, left = costs[-1], row
        line = [left]
        for column, other in enumerate(label):
            left = min(above[column] + (item != other), above[column + 1] + 1, left + 1)
            line.append(left)
        costs.append(line)
    return costs
