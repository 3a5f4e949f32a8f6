"""The attention decoder's beam search, against enumeration of all texts with the NumPy twin's decoder."""

import itertools

import numpy as np
import numpy_twin as twin
import pytest
from test_decoder import EMBEDDING, LENGTHS, U, decoder_of, encoded_feed, twins_start

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID
from aocr.graph.beam import Beam
from aocr.graph.constraint import Anything, Constraint
from aocr.graph.ctc import IMPOSSIBLE
from aocr.search.automaton import Words, any_of, of_words

V, STEPS = 11, 4  # ids; steps, EOS included
DEPTH = 6
FEW = 2  # characters that are likely: FIRST_ID and the next one


def weights(use_gru, few=V, seed=None):
    """Returns weights with a different best text for each image (found by trying seeds); ids from `few` on are hardly
    possible.
    """
    random = np.random.RandomState(seed or {False: 72, True: 5}[use_gru])
    bias = np.zeros(V, np.float32)
    bias[few:] = -40.0
    bias[EOS_ID] = -1.0
    bias[[PAD_ID, GO_ID]] = 3.0  # likely, but never part of a text
    return {"decoder/embedding": 2 * random.normal(size=[V, EMBEDDING]),
            "decoder/output/kernel": 1.5 * random.normal(size=[U + DEPTH, V]), "decoder/output/bias": bias}


def search(bench, use_gru, beam, count, automaton=None, steps=STEPS, few=V):
    """Returns a list per image of (text, log probability), best first, and the Bench."""
    feed = encoded_feed(use_gru)

    def build(**encoded):
        constraint = Constraint(automaton) if automaton else Anything()
        decoder = decoder_of(use_gru, 1, **encoded)
        return decoder.search(steps, Beam(beam, count, steps, constraint)), decoder.decode(steps).ids

    network = bench(build, feed, weights(use_gru, few))
    got, greedy = network.run(**feed)
    assert got.ids.dtype == np.int32 and got.ids.shape[:2] == got.log_probabilities.shape == (len(LENGTHS), count)
    texts = [[(tuple(int(k) for k in ids if k != PAD_ID), score) for ids, score in zip(*image) if score > IMPOSSIBLE]
             for image in zip(got.ids, got.log_probabilities)]
    return texts, greedy, network


def by_trying(network, use_gru, n, texts):
    """Returns {text: log probability} by the twin, for one image."""
    feed, found = encoded_feed(use_gru), {}
    for text in texts:
        logits, _ = twin.decode_taught(network.weights, "decoder", *twins_start(
            network.weights, feed, n, 1, use_gru), use_gru, [GO_ID, *text])
        found[text] = sum(np.log(twin.softmax(step)[k]) for step, k in zip(logits, [*text, EOS_ID]))
    return found


def all_texts(characters, most):
    return [text for length in range(most + 1) for text in itertools.product(characters, repeat=length)]


@pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
def test_a_beam_of_full_width_finds_the_likeliest_texts(bench, use_gru):
    """Two characters, texts of at most three: 15 of them."""
    found, _, network = search(bench, use_gru, 40, 15, any_of(range(FEW)))
    for n, image in enumerate(found):
        tried = by_trying(network, use_gru, n, all_texts(range(FIRST_ID, FIRST_ID + FEW), STEPS - 1))
        assert [text for text, _ in image] == sorted(tried, key=tried.get, reverse=True)
        np.testing.assert_allclose([score for _, score in image], sorted(tried.values(), reverse=True), rtol=1e-4)
    assert len({image[0][0] for image in found}) == len(LENGTHS), "the weights of this test show nothing"


def test_without_a_constraint_all_characters_count(bench):
    found, _, network = search(bench, False, 80, 5, steps=3)
    for n, image in enumerate(found):
        tried = by_trying(network, False, n, all_texts(range(FIRST_ID, V), 2))
        assert [text for text, _ in image] == sorted(tried, key=tried.get, reverse=True)[:5]


@pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
def test_a_beam_of_one_is_greedy(bench, use_gru):
    """Each image writes a text of another length (weights found by trying seeds)."""
    feed, steps, given = encoded_feed(use_gru), 12, weights(use_gru, seed={False: 730, True: 357}[use_gru])
    given["decoder/output/bias"][[PAD_ID, GO_ID, EOS_ID]] = -40.0, -40.0, 0.0

    def build(**encoded):
        decoder = decoder_of(use_gru, 1, **encoded)
        return decoder.search(steps, Beam(1, 1, steps, Anything())), decoder.decode(steps).ids

    got, greedy = bench(build, feed, given).run(**feed)
    for ids, own in zip(got.ids[:, 0].tolist(), greedy.tolist()):
        assert [k for k in ids if k != PAD_ID] == own[:own.index(EOS_ID)]
    assert len({ids.index(EOS_ID) for ids in greedy.tolist()}) == len(LENGTHS)


def test_only_words_are_found_by_their_probabilities(bench):
    words = [(0, 1), (5,), (3, 3, 3), (1, 2, 3, 4)]  # the last one is too long
    automaton = of_words(Words(np.array([k for word in words for k in word], np.int32),
                               np.array([len(word) for word in words], np.int32)))
    found, _, network = search(bench, True, 6, 6, automaton)
    for n, image in enumerate(found):
        tried = by_trying(network, True, n, [tuple(FIRST_ID + k for k in word) for word in words[:3]])
        assert [text for text, _ in image] == sorted(tried, key=tried.get, reverse=True)
        np.testing.assert_allclose([score for _, score in image], sorted(tried.values(), reverse=True), rtol=1e-4)


def test_a_narrow_beam_reaches_the_only_word_in_time(bench):
    """After each step, only texts are kept that can still become a word and end."""
    automaton = of_words(Words(np.array([7, 7, 7], np.int32), np.array([3], np.int32)))
    found, *_ = search(bench, False, 1, 1, automaton, few=9)
    assert [[text for text, _ in image] for image in found] == [[(10, 10, 10)]] * len(LENGTHS)


def test_nothing_is_found_where_nothing_may_be_read(bench):
    nothing = of_words(Words(np.zeros(0, np.int32), np.zeros(0, np.int32)))
    assert search(bench, False, 3, 2, nothing)[0] == [[]] * len(LENGTHS)
