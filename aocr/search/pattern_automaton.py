"""Compiles patterns to automata: to a nondeterministic one over code points, that to a deterministic one (subset
construction), and that to one over the classes of a charset.
"""

import collections
from collections.abc import Sequence

import numpy as np

from aocr.search.automaton import Automaton, from_edges
from aocr.synth.patterns import Alternatives, Characters, Pattern, PatternError
from aocr.synth.patterns import Sequence as Concatenation

MOST_STATES = 200_000  # of the nondeterministic automaton
MOST_WORK = 4_000_000  # states visited by the subset construction; takes some seconds
MOST_EDGES = 20_000_000


def of_pattern(pattern: Pattern, characters: Sequence[str], classes: Sequence[int]) -> Automaton:
    """Returns the automaton of the texts of a pattern that some characters can write.

    Args: characters: of a charset, each of one or more code points. classes: ascending, those that may occur.
    Raises: PatternError if the pattern needs too many states.
    """
    machine = _Machine(pattern)
    points = sorted({point for k in classes for point in characters[k]})
    groups, table, accepting = _determined(machine, points)
    dead = len(accepting)
    if dead * len(classes) > MOST_EDGES:
        raise PatternError(0, f"too large: {dead} states of {len(classes)} characters each; repeat less often")
    everywhere, sources, labels, targets = np.arange(dead), [], [], []
    for k in classes:
        states = everywhere
        for point in characters[k]:
            states = table[states, groups[point]]
        alive = np.flatnonzero(states != dead)
        sources.append(alive)
        labels.append(np.full(len(alive), k))
        targets.append(states[alive])
    order = np.argsort(np.concatenate(sources), kind="stable")
    return from_edges(np.concatenate(sources)[order], np.concatenate(labels)[order], np.concatenate(targets)[order],
                      accepting)


class _Machine:
    """A nondeterministic automaton (Thompson 1968) with the start 0 and one accepting state, `end`."""

    def __init__(self, pattern):
        self.sets = {}  # characters -> their number
        self.moves = [[]]  # of each state: (number of a set, next state)
        self.jumps = [[]]  # of each state: states reached without a character
        self.end = self._add(pattern, 0)

    def _new(self):
        if len(self.moves) >= MOST_STATES:
            raise PatternError(0, f"needs more than {MOST_STATES} states; repeat less often")
        self.moves.append([])
        self.jumps.append([])
        return len(self.moves) - 1

    def _add(self, part, start):
        """Adds a part from a state on; returns the state after it."""
        if isinstance(part, Characters):
            end = self._new()
            self.moves[start].append((self.sets.setdefault(part.characters, len(self.sets)), end))
        elif isinstance(part, Concatenation):
            end = start
            for inside in part.parts:
                end = self._add(inside, end)
        elif isinstance(part, Alternatives):
            end = self._new()
            for inside in part.parts:
                begin = self._new()
                self.jumps[start].append(begin)
                self.jumps[self._add(inside, begin)].append(end)
        else:
            end, at = self._new(), start
            for repetition in range(part.many):
                if repetition >= part.fewest:
                    self.jumps[at].append(end)
                at = self._add(part.part, at)
            self.jumps[at].append(end)
        return end

    def closure(self, states):
        """Returns all states that are reached from some without a character."""
        found, waiting = set(states), list(states)
        while waiting:
            for state in self.jumps[waiting.pop()]:
                if state not in found:
                    found.add(state)
                    waiting.append(state)
        return frozenset(found)


def _determined(machine, points):
    """Makes an automaton deterministic.

    Points that are in the same sets of the pattern form a group.

    Returns: {point: its group}; table of next states, int64 [Q + 1, groups], Q for none; accepting, bool [Q].
    """
    members = {point: frozenset(number for text, number in machine.sets.items() if point in text) for point in points}
    contents = list(dict.fromkeys(members.values()))
    numbers = {machine.closure([0]): 0}
    waiting, rows, work = collections.deque(numbers), [], 0
    while waiting:
        subset = waiting.popleft()
        moved = collections.defaultdict(set)  # number of a set -> states after one of its characters
        for state in subset:
            for number, target in machine.moves[state]:
                moved[number].add(target)
        row = []
        for content in contents:
            after = machine.closure(set().union(*(moved[number] for number in content if number in moved)))
            if after and after not in numbers:
                numbers[after] = len(numbers)
                waiting.append(after)
            row.append(numbers[after] if after else -1)
            work += len(after)
        rows.append(row)
        work += len(subset)
        if work > MOST_WORK:
            raise PatternError(0, "needs too many states; use fewer optional parts")
    table = np.array(rows, np.int64).reshape(len(numbers), -1)
    table = np.pad(np.where(table < 0, len(numbers), table), [[0, 1], [0, 0]], constant_values=len(numbers))
    accepting = np.array([machine.end in subset for subset in numbers])
    groups = {content: k for k, content in enumerate(contents)}
    return {point: groups[content] for point, content in members.items()}, table, accepting
