"""Sets of texts as deterministic finite automata over the classes of a charset.

Class k is the charset's character k (id FIRST_ID + k). No automaton here has cycles, but that of `any_of`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NEVER = 1 << 20  # distance of a state that no accepting state can be reached from; more than any text's length


class Automaton(NamedTuple):
    """Q states, 0 being the start and the last one dead, and M edges, those of a state adjacent."""

    first: np.ndarray  # [Q + 1] int32: the edges of state q are first[q] to first[q + 1] - 1
    labels: np.ndarray  # [M] int32 classes, ascending within a state
    targets: np.ndarray  # [M] int32 states, from which an accepting state can be reached
    distance: np.ndarray  # [Q] int32: characters to the nearest accepting state, 0 there, NEVER from the dead state

    @property
    def dead(self) -> int:
        """The state without edges that accepts nothing."""
        return len(self.distance) - 1

    @property
    def shortest(self) -> int:
        """Length of the shortest text; NEVER if there is none."""
        return int(self.distance[0])

    def after(self, states: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Returns the states after one more character each: int [n], int [n] -> int32 [n], dead where there is no edge.
        """
        width = np.int64(max(int(self.labels.max(initial=0)), int(classes.max(initial=0))) + 1)
        sources = np.repeat(np.arange(len(self.distance), dtype=np.int64), np.diff(self.first))
        keys, sought = sources * width + self.labels, states.astype(np.int64) * width + classes
        places = np.searchsorted(keys, sought)
        inside = np.minimum(places, max(len(keys) - 1, 0))
        found = (keys[inside] == sought) if len(keys) else np.zeros(len(sought), bool)
        targets = self.targets[inside] if len(keys) else np.zeros(len(sought), np.int32)
        return np.where(found, targets, self.dead).astype(np.int32)


class Words(NamedTuple):
    """Words as classes, one after the other."""

    classes: np.ndarray  # [sum of lengths] int32
    lengths: np.ndarray  # [n] int32

    @property
    def starts(self) -> np.ndarray:
        """Where each word begins: int64 [n]."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def where(self, kept: np.ndarray) -> "Words":
        """Returns some of the words: bool [n]."""
        return Words(self.classes[np.repeat(kept, self.lengths)], self.lengths[kept])


def from_edges(sources: np.ndarray, labels: np.ndarray, targets: np.ndarray, accepting: np.ndarray) -> Automaton:
    """Returns an Automaton, without the edges that lead to no accepting state.

    Args: sources, labels, targets: int [M], sorted by source, then label. accepting: bool [Q], without the dead state.
    """
    distance = np.where(accepting, 0, NEVER).astype(np.int32)
    length, reached = 0, accepting
    while reached.any():  # breadth first, backwards from the accepting states
        before = np.zeros(len(accepting), bool)
        before[sources[reached[targets]]] = True
        reached = before & (distance == NEVER)
        length += 1
        distance[reached] = length
    useful = distance[targets] < NEVER
    counts = np.bincount(sources[useful], minlength=len(accepting) + 1)
    return Automaton(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), labels[useful].astype(np.int32),
                     targets[useful].astype(np.int32), np.append(distance, NEVER).astype(np.int32))


def any_of(classes: Sequence[int]) -> Automaton:
    """Returns the automaton of all texts of some classes (ascending), the empty one included."""
    labels = np.array(classes, np.int32)
    return from_edges(np.zeros_like(labels), labels, np.zeros_like(labels), np.array([True]))


def accepted(automaton: Automaton, words: Words) -> np.ndarray:
    """Returns which words an automaton accepts: bool [n]."""
    states, starts = np.zeros(len(words.lengths), np.int32), words.starts
    for place in range(int(words.lengths.max(initial=0))):
        at = np.flatnonzero((words.lengths > place) & (states != automaton.dead))
        states[at] = automaton.after(states[at], words.classes[starts[at] + place])
    return automaton.distance[states] == 0


def of_words(words: Words) -> Automaton:
    """Returns the minimal automaton of some words, which may repeat.

    Builds a trie, level by level, in which edge m leads to state m + 1; then merges states with equal continuations.
    """
    states, starts = np.zeros(len(words.lengths), np.int64), words.starts
    width = np.int64(words.classes.max(initial=0) + 1)
    keys, ends = [np.zeros(0, np.int64)], [1]
    for place in range(int(words.lengths.max(initial=0))):
        at = np.flatnonzero(words.lengths > place)
        found, inverse = np.unique(states[at] * width + words.classes[starts[at] + place], return_inverse=True)
        states[at] = ends[-1] + inverse
        keys.append(found)
        ends.append(ends[-1] + len(found))
    accepting = np.zeros(ends[-1], bool)
    accepting[states] = True
    sources, labels = np.divmod(np.concatenate(keys), width)
    merged = _merged(sources, labels, accepting, ends)
    kept, numbers = np.unique(merged, return_inverse=True)  # state -> number of the state that stands for it
    edges = np.flatnonzero(merged[sources] == sources)
    return from_edges(numbers[sources[edges]], labels[edges], numbers[edges + 1], accepting[kept])


def _merged(sources, labels, accepting, ends):
    """Returns for each state of a trie one that accepts the same continuations: int64 [M + 1].

    Args: sources, labels: int64 [M]; accepting: bool [M + 1]; ends: the number of states down to each level.
    """
    heights = np.zeros(ends[-1], np.int64)  # length of the longest continuation
    for start, end in zip(ends[-2::-1], ends[:0:-1]):
        np.maximum.at(heights, sources[start - 1:end - 1], heights[start:end] + 1)
    merged, first = np.arange(ends[-1]), np.searchsorted(sources, np.arange(ends[-1] + 1))
    for height, level in enumerate(np.split(np.argsort(heights, kind="stable"), np.cumsum(np.bincount(heights))[:-1])):
        if not height:
            merged[level] = level[0]
            continue
        counts = first[level + 1] - first[level]
        offsets = np.cumsum(counts) - counts
        edges = np.arange(counts.sum()) + np.repeat(first[level] - offsets, counts)
        content = np.stack([labels[edges], merged[edges + 1]])  # [2, edges of this level]
        hashes = np.add.reduceat(_mixed(content), offsets) * np.uint64(2) + accepting[level].astype(np.uint64)
        _, index, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        chosen = index[inverse]
        same = counts == counts[chosen]
        twin = np.minimum(np.arange(len(edges)) + np.repeat(offsets[chosen] - offsets, counts), len(edges) - 1)
        same &= np.logical_and.reduceat((content == content[:, twin]).all(0), offsets)  # else equal hashes by chance
        merged[level] = np.where(same, level[chosen], level)
    return merged


def _mixed(content):
    """Hashes columns (the finalizer of SplitMix64): int64 [2, n] -> uint64 [n]."""
    x = content[0].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + content[1].astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
