"""The constrained prefix beam search, against enumeration, a naive twin in NumPy and TensorFlow's own search."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph.constraint import Anything, Constraint
from aocr.graph.ctc import IMPOSSIBLE
from aocr.graph.prefix_beam import best_prefixes
from aocr.search.automaton import Words, any_of, of_words

CHARACTERS, STEPS = 3, 6
LENGTHS = np.array([6, 1, 4, 3], np.int32)


def logits_of(seed, characters=CHARACTERS, sharpness=1.5):
    return np.random.RandomState(seed).normal(size=[len(LENGTHS), STEPS, characters + 1], scale=sharpness).astype(
        np.float32)


def lexicon(*words):
    return of_words(Words(np.array([k for word in words for k in word], np.int32),
                          np.array([len(word) for word in words], np.int32)))


def found_by(run_graph, logits, automaton, beam, longest=9, lengths=LENGTHS):
    """Returns the texts of each image, best first: lists of (text, log probability)."""
    got = run_graph(lambda logits, lengths: best_prefixes(
        logits, lengths, Constraint(automaton) if automaton else Anything(), beam=beam, longest=longest),
        logits=logits, lengths=lengths)
    assert got.ids.dtype == np.int32 and got.log_probabilities.shape == got.ids.shape[:2] == (len(lengths), beam)
    return [[(tuple(int(k) - FIRST_ID for k in ids if k != PAD_ID), score) for ids, score in zip(*image)
             if score > IMPOSSIBLE] for image in zip(got.ids, got.log_probabilities)]


def by_counting(logits, length):
    """Returns {text: probability} of one image, over all paths."""
    probabilities = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    texts = {}
    for path in itertools.product(range(logits.shape[1]), repeat=length):
        text = tuple(k for k, _ in itertools.groupby(path) if k != logits.shape[1] - 1)
        texts[text] = texts.get(text, 0.0) + np.prod([probabilities[s, k] for s, k in enumerate(path)])
    return texts


def naive(logits, length, allowed, beam, longest):
    """One image, prefix by prefix: {text: log probability} of the beam at the end. `allowed`: set of texts, or None."""
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    blank = logits.shape[1] - 1

    def missing(prefix):
        if allowed is None:
            return 0
        return min((len(text) - len(prefix) for text in allowed if text[:len(prefix)] == prefix), default=99)

    kept = {(): (1.0, 0.0)}
    for s in range(length):
        new = {}

        def add(prefix, place, value, new=new):
            new.setdefault(prefix, [0.0, 0.0])[place] += value

        for prefix, (by_blank, by_other) in kept.items():
            add(prefix, 0, (by_blank + by_other) * probabilities[s, blank])
            for k in range(blank):
                if prefix and prefix[-1] == k:
                    add(prefix, 1, by_other * probabilities[s, k])
                    add((*prefix, k), 1, by_blank * probabilities[s, k])
                else:
                    add((*prefix, k), 1, (by_blank + by_other) * probabilities[s, k])
        possible = {prefix: pair for prefix, pair in new.items() if sum(pair) > 0
                    and missing(prefix) <= length - 1 - s and len(prefix) + missing(prefix) <= longest}
        kept = dict(sorted(possible.items(), key=lambda item: -sum(item[1]))[:beam])
    return {text: np.log(sum(pair)) for text, pair in kept.items() if not missing(text)}


def test_a_full_beam_finds_all_texts_with_their_probabilities(run_graph):
    logits = logits_of(1)
    for image, scores, length in zip(found_by(run_graph, logits, None, beam=900), logits, LENGTHS):
        counted = by_counting(scores, length)
        assert {text for text, _ in image} == set(counted)
        np.testing.assert_allclose([score for _, score in image], [np.log(counted[text]) for text, _ in image],
                                   rtol=1e-4)
        assert [score for _, score in image] == sorted((score for _, score in image), reverse=True)


@pytest.mark.parametrize("beam", [1, 3, 10])
def test_a_narrow_beam_is_the_twins(run_graph, beam):
    longest = 4
    logits, lengths = np.concatenate([logits_of(seed) for seed in range(8)]), np.tile(LENGTHS, 8)
    words = {tuple(word) for word in np.random.RandomState(0).randint(0, 3, [30, 4])} | {(0, 0), (2,), (1, 2, 1)}
    for allowed in (None, words):
        got = found_by(run_graph, logits, allowed and lexicon(*allowed), beam, longest, lengths)
        for image, scores, length in zip(got, logits, lengths):
            expected = naive(scores, length, allowed, beam, longest)
            assert [text for text, _ in image] == sorted(expected, key=expected.get, reverse=True)
            np.testing.assert_allclose([score for _, score in image], [expected[text] for text, _ in image],
                                       rtol=1e-4, atol=1e-5)


def test_without_a_constraint_it_is_tensorflows(run_graph):
    """The beams are so wide that it hardly matters what is dropped, which is not the same."""
    logits = np.concatenate([logits_of(seed, characters=11, sharpness=2.0) for seed in range(6)])
    lengths, beam = np.tile(LENGTHS, 6), 150
    paths, scores = run_graph(lambda logits, lengths: tf.nn.ctc_beam_search_decoder_v2(
        tf.transpose(logits, [1, 0, 2]), lengths, beam, 5), logits=logits, lengths=lengths)
    theirs = [np.full(path.dense_shape, -1) for path in paths]
    for path, dense in zip(paths, theirs):
        dense[tuple(path.indices.T)] = path.values
    got = found_by(run_graph, logits, None, beam, lengths=lengths)
    for n, image in enumerate(got):
        assert [text for text, _ in image[:5]] == [tuple(int(k) for k in dense[n] if k >= 0) for dense in theirs]
        np.testing.assert_allclose([score for _, score in image[:5]], scores[n], rtol=1e-3)


def test_only_words_are_found_and_the_best_one_among_them(run_graph):
    """Every word that fits is in a beam as wide as the lexicon is large."""
    words = [(0, 1, 2), (1, 1), (2, 0, 2, 0), (2,), (0, 0, 0, 0, 0, 0)]
    logits = logits_of(3)
    for image, scores, length in zip(found_by(run_graph, logits, lexicon(*words), beam=16), logits, LENGTHS):
        counted = by_counting(scores, length)
        fitting = [word for word in words if word in counted]
        assert [text for text, _ in image] == sorted(fitting, key=counted.get, reverse=True)
    assert [text for text, _ in found_by(run_graph, logits, lexicon(*words), beam=16)[1]] == [(2,)]


def test_a_word_far_from_what_is_seen_is_still_found(run_graph):
    """All steps are sure of class 0: the narrow beam is forced towards the only word in time."""
    logits = np.zeros([len(LENGTHS), STEPS, 4], np.float32)
    logits[:, :, 0] = 20.0
    found = found_by(run_graph, logits, lexicon((1, 2, 1)), beam=2)
    assert [[text for text, _ in image] for image in found] == [[(1, 2, 1)], [], [(1, 2, 1)], [(1, 2, 1)]]
    assert max(score for image in found for _, score in image) < -55


def test_no_text_is_longer_than_the_limit(run_graph):
    logits = np.zeros([len(LENGTHS), STEPS, 4], np.float32)
    logits[:, range(STEPS), [0, 1, 2, 0, 1, 2]] = 9.0
    for automaton, longest, best in [(None, 2, (0, 2)), (any_of([0, 2]), 3, (0, 2, 0))]:
        texts = [text for text, _ in found_by(run_graph, logits, automaton, 5, longest)[0]]
        assert max(map(len, texts)) == longest == len(best) and best in texts


def test_an_empty_lexicon_finds_nothing(run_graph):
    assert found_by(run_graph, logits_of(4), lexicon(), beam=3) == [[]] * len(LENGTHS)
