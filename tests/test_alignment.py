"""Alignment of texts with CTC's frames, and what the frames could say instead, against enumeration of all paths."""

import itertools

import numpy as np
import pytest
from test_ctc import BLANK, CHARACTERS, A, B, C, by_counting, collapsed, logits_of

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph import alignment


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def padded(texts):
    width = max(map(len, texts))
    return np.array([[*text, *[PAD_ID] * (width - len(text))] for text in texts], np.int32)


def spans_of(run_graph, log_probabilities, lengths, texts):
    """Returns [(start, end) of each character] for each image."""
    starts, ends = run_graph(alignment.align, log_probabilities=log_probabilities.astype(np.float32),
                             lengths=np.array(lengths, np.int32), ids=padded(texts))
    return [[(int(starts[n, t]), int(ends[n, t])) for t in range(len(text))] for n, text in enumerate(texts)]


def test_an_alignment_derived_by_hand(run_graph):
    """Paths that read AB: AAB 0.6 x 0.5 x 0.9 = 0.27, _AB 0.18, ABB 0.162, A_B 0.108. Paths that read A: _A_ 0.018,
    A__ 0.0108, AA_ 0.027, the best, as B has all but 0.1 of the last frame.
    """
    frames = np.array([[0.6, 0.0001, 0.0001, 0.4], [0.5, 0.3, 0.0001, 0.2], [0.0001, 0.9, 0.0001, 0.09]])
    assert spans_of(run_graph, np.log(np.stack([frames, frames])), [3, 3], [(A, B), (A,)]) == [
        [(0, 2), (2, 3)], [(0, 2)]]


def best_spans(log_probabilities, length, text):
    """Finds the most likely path by trying all, and the frames of its characters."""
    paths = (path for path in itertools.product(range(CHARACTERS + 1), repeat=length) if collapsed(path) == text)
    best = max(paths, key=lambda path: sum(log_probabilities[s, k] for s, k in enumerate(path)))
    spans, end = [], 0
    for k, run in itertools.groupby(best):
        start, end = end, end + len(list(run))
        if k != BLANK:
            spans.append((start, end))
    return spans


@pytest.mark.parametrize("seed, texts", [(4, [(A,), (A, B), (C, C)]), (5, [(B, A, B), (A, A, A), (C,)]),
                                         (6, [(A, B, B), (C, A, C), (B,)])])
def test_the_alignment_is_the_best_of_all(run_graph, seed, texts):
    log_probabilities, lengths = log_softmax(logits_of(seed=seed)), [4, 5, 3]
    assert spans_of(run_graph, log_probabilities, lengths, texts) == [
        best_spans(log_probabilities[n], lengths[n], text) for n, text in enumerate(texts)]


def posteriors(run_graph, logits, lengths, texts):
    def build(logits, lengths, ids):
        spans = alignment.align(logits, lengths, ids)
        return spans, alignment.class_log_posteriors(logits, lengths, ids, spans)

    spans, found = run_graph(build, logits=log_softmax(logits).astype(np.float32),
                             lengths=np.array(lengths, np.int32), ids=padded(texts))
    return spans, np.exp(found)


def test_a_single_character_is_as_probable_as_its_text(run_graph):
    """All frames of the image are its place."""
    logits, lengths = logits_of(seed=7), [5, 4, 2]
    _, found = posteriors(run_graph, logits, lengths, [(A,), (B,), (C,)])
    for n, length in enumerate(lengths):
        counted = by_counting(logits[n], length)
        np.testing.assert_allclose(found[n, 0], [counted[(FIRST_ID + k,)] for k in range(CHARACTERS)], rtol=1e-4)


def test_places_end_halfway_between_characters(run_graph):
    """A in frame 0, B in frame 3 of 5: frames 0 and 1 are A's place, since (1 + 3 + 1) // 2 is 2."""
    logits = np.zeros([1, 5, CHARACTERS + 1], np.float32)
    for s, k in enumerate([0, BLANK, BLANK, 1, BLANK]):
        logits[0, s, k] = 2.0
    spans, found = posteriors(run_graph, logits, [5], [(A, B)])
    assert spans.starts.tolist() == [[0, 3]] and spans.ends.tolist() == [[1, 4]]
    for t, (part, length) in enumerate([(logits[0, :2], 2), (logits[0, 2:], 3)]):
        counted = by_counting(part, length)
        np.testing.assert_allclose(found[0, t], [counted[(FIRST_ID + k,)] for k in range(CHARACTERS)], rtol=1e-4)


def test_texts_that_do_not_fit_and_empty_ones_do_no_harm(run_graph):
    logits, lengths = logits_of(seed=8), [1, 5, 2]
    _, found = posteriors(run_graph, logits, lengths, [(A, B), (A, B), ()])
    _, alone = posteriors(run_graph, logits[1:2], [5], [(A, B)])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], alone[0], rtol=1e-5)
