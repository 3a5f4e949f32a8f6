"""Decoding by attention, by CTC and by both, on branches with prescribed logits."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID
from aocr.config import ATTENTION, CTC, JOINT, Decoding
from aocr.graph import decoding
from aocr.graph.decoder import DecoderOutput

A, B, C = (FIRST_ID + k for k in range(3))
V, BLANK = FIRST_ID + 3, 3
STEPS = 5  # encoder's
SURE = 6.0


class Opinionated(NamedTuple):
    """A decoder with these logits [N, T, V] for each image, whatever the strategy."""

    logits: tf.Tensor

    def decode(self, steps, strategy=None, copies=1):
        logits = tf.repeat(self.logits[:, :steps], copies, axis=0)
        ids = tf.argmax(logits, 2, output_type=tf.int32)
        attention = tf.fill([tf.shape(logits)[0], tf.shape(logits)[1], STEPS], 1.0 / STEPS)
        return DecoderOutput(logits, attention, ids)


def writes(text, sure=SURE):
    """Returns logits [T, V] of a decoder that writes a text and EOS."""
    logits = np.zeros([6, V], np.float32)
    for t, k in enumerate([*text, EOS_ID]):
        logits[t, k] = sure
    return logits


def aligns(path, sure=SURE):
    """Returns CTC logits [S, K] for a path of ids, with None for a blank."""
    logits = np.zeros([STEPS, 4], np.float32)
    for s, k in enumerate(path):
        logits[s, BLANK if k is None else k - FIRST_ID] = sure
    return logits


def read(run_graph, how, by_attention, by_ctc, steps=5):
    """Returns (texts, probabilities) of images."""
    def build(attention, ctc):
        lengths = tf.fill([tf.shape(ctc)[0]], STEPS)
        found = decoding.transcribe(how, Opinionated(attention), ctc, lengths, steps)
        return found.ids, found.probability, found.attention

    ids, probability, attention = run_graph(build, attention=np.array(by_attention), ctc=np.array(by_ctc))
    assert probability.dtype == np.float64 and ((probability >= 0) & (probability <= 1)).all()
    assert attention.shape == (*ids.shape, STEPS)
    return [[int(k) for k in row[:list(row).index(EOS_ID)]] for row in ids], probability


BRANCHES = dict(by_attention=[writes([A, B]), writes([C, B], sure=1.0)],
                by_ctc=[aligns([A, None, C, None, None], sure=1.0), aligns([C, C, None, A, None])])


def test_each_branch_by_itself(run_graph):
    texts, attention = read(run_graph, Decoding(ATTENTION), **BRANCHES)
    assert texts == [[A, B], [C, B]]
    texts, ctc = read(run_graph, Decoding(CTC), **BRANCHES)
    assert texts[1] == [C, A]
    assert attention[0] > 0.9 and ctc[1] > 0.9 and attention[1] < 0.5 and ctc[0] < 0.5


def test_together_the_sure_one_wins(run_graph):
    """The attention decoder is sure of the first image, CTC of the second."""
    texts, _ = read(run_graph, Decoding(JOINT, 0.5), **BRANCHES)
    assert texts == [[A, B], [C, A]]


@pytest.mark.parametrize("share, texts", [(0.0, [[A, B], [C, B]]), (1.0, [[A, C], [C, A]])])
def test_a_share_of_all_or_nothing_is_one_branch(run_graph, share, texts):
    branches = dict(BRANCHES, by_ctc=[aligns([A, None, C, None, None], sure=3.0), BRANCHES["by_ctc"][1]])
    assert read(run_graph, Decoding(JOINT, share), **branches)[0] == texts


def test_a_decoder_that_runs_on_is_stopped_by_ctc(run_graph):
    """It never writes EOS, and its text does not fit into the steps."""
    endless = np.zeros([6, V], np.float32)
    endless[:, A] = 3.0
    texts, _ = read(run_graph, Decoding(JOINT, 0.3), [endless], [aligns([None, B, None, None, None])])
    assert texts == [[B]]


def test_no_text_is_longer_than_the_limit(run_graph):
    texts, _ = read(run_graph, Decoding(CTC), [writes([A])], [aligns([A, B, C, A, B])], steps=4)
    assert texts == [[A, B, C]]


def test_an_empty_text_can_be_read(run_graph):
    for method in (ATTENTION, CTC, JOINT):
        texts, probability = read(run_graph, Decoding(method, 0.5), [writes([])], [aligns([None] * STEPS)])
        assert texts == [[]] and probability[0] > 0.9


def test_what_a_decoder_is_taught_with(run_graph):
    ids = np.array([[A, B, PAD_ID], [PAD_ID] * 3, [C, C, A]], np.int32)
    inputs, targets = run_graph(decoding.taught_with, ids=ids)
    assert inputs.tolist() == [[GO_ID, A, B, PAD_ID], [GO_ID, *[PAD_ID] * 3], [GO_ID, C, C, A]]
    assert targets.tolist() == [[A, B, EOS_ID, PAD_ID], [EOS_ID, *[PAD_ID] * 3], [C, C, A, EOS_ID]]


def test_characters_of_what_was_written(run_graph):
    ids = np.array([[A, PAD_ID, B, EOS_ID, C], [EOS_ID, A, A, A, A], [GO_ID, C, B, A, A]], np.int32)
    assert run_graph(decoding.characters_of, ids=ids).tolist() == [
        [A, B, PAD_ID, PAD_ID], [PAD_ID] * 4, [C, B, A, A]]
