"""The CTC branch, against explicit enumeration of all alignments."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph import ctc
from aocr.graph.encoder import EncoderOutput

N, S, CHARACTERS = 3, 5, 3
A, B, C = (FIRST_ID + k for k in range(CHARACTERS))
BLANK = CHARACTERS


def logits_of(steps=S, seed=4):
    return np.random.RandomState(seed).normal(size=[N, steps, CHARACTERS + 1]).astype(np.float32)


def collapsed(path):
    """Collapses a path of classes to its text."""
    return tuple(FIRST_ID + k for k, _ in itertools.groupby(path) if k != BLANK)


def by_counting(logits, length):
    """Returns {text: probability} of one image, over all paths of `length` steps."""
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    texts = {}
    for path in itertools.product(range(CHARACTERS + 1), repeat=length):
        texts[collapsed(path)] = texts.get(collapsed(path), 0.0) + np.prod(
            [probabilities[s, k] for s, k in enumerate(path)])
    return texts


def log_probability(run_graph, logits, lengths, texts):
    width = max(map(len, texts))
    ids = np.array([[*text, *[PAD_ID] * (width - len(text))] for text in texts], np.int32).reshape(len(texts), width)
    return run_graph(ctc.log_probability, logits=logits, lengths=np.array(lengths, np.int32), ids=ids)


@pytest.mark.parametrize("texts", [[(A,), (A, B), (C, C)], [(B, A, B), (A, A, A), ()], [(), (), (A,)], [(), (), ()]])
def test_the_probability_of_a_text_is_that_of_its_alignments(run_graph, texts):
    logits, lengths = logits_of(), [3, 5, 4]
    got = log_probability(run_graph, logits, lengths, texts)
    expected = [np.log(by_counting(logits[n], lengths[n])[texts[n]]) for n in range(N)]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_text_that_does_not_fit_is_impossible_and_changes_nothing(bench):
    """Two equal characters need a blank between them: three steps."""
    def build(logits, lengths, ids):
        found = ctc.log_probability(logits, lengths, ids)
        return found, tf.gradients(found, logits)[0]

    feed = dict(logits=logits_of(), lengths=np.array([2, 3, 2], np.int32),
                ids=np.array([[A, A], [A, A], [A, B]], np.int32))
    found, gradient = bench(build, feed).run(**feed)
    assert found[0] == ctc.IMPOSSIBLE and (found[1:] > -20).all()
    assert not gradient[0].any() and np.isfinite(gradient).all()
    assert gradient[1, :3].any() and not gradient[1, 3:].any()


def test_what_fits(run_graph):
    ids = np.array([[A, A, B], [A, B, PAD_ID], [PAD_ID, PAD_ID, PAD_ID], [B, B, B]], np.int32)
    for lengths, fit in [([4, 2, 1, 5], [True] * 4), ([3, 1, 1, 4], [False, False, True, False])]:
        assert run_graph(ctc.fits, ids=ids, lengths=np.array(lengths, np.int32)).tolist() == fit


def test_a_wide_beam_finds_the_likeliest_texts(run_graph):
    logits, lengths = logits_of(seed=5), [5, 2, 4]
    got = run_graph(lambda logits, lengths: ctc.best_texts(logits, lengths, beam=400, count=3),
                    logits=logits, lengths=np.array(lengths, np.int32))
    assert got.ids.dtype == np.int32 and got.ids.shape[:2] == (N, 3)
    for n in range(N):
        counted = by_counting(logits[n], lengths[n])
        best = sorted(counted, key=counted.get, reverse=True)[:3]
        assert [tuple(k for k in ids if k != PAD_ID) for ids in got.ids[n]] == best
        np.testing.assert_allclose(got.log_probabilities[n], [np.log(counted[text]) for text in best], rtol=1e-4)


def test_labels_from_right_to_left_count_steps_from_the_right(bench):
    memory = np.random.RandomState(6).normal(size=[2, 4, 7]).astype(np.float32)
    memory[0, 3] = 0.0
    lengths = np.array([3, 4], np.int32)

    def build(right_to_left):
        return lambda memory, lengths: ctc.ctc_logits(
            EncoderOutput(memory, lengths, None, None), CHARACTERS, right_to_left)

    feed = dict(memory=memory, lengths=lengths)
    left, right = (bench(build(direction), feed).run(**feed) for direction in (False, True))
    assert left.shape == (2, 4, CHARACTERS + 1)
    np.testing.assert_allclose(right[0, :3], left[0, 2::-1], rtol=1e-5)
    np.testing.assert_allclose(right[1], left[1, ::-1], rtol=1e-5)
