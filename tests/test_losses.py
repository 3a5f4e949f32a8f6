"""The losses and the probability of a reading, against hand-computed values and the NumPy twin."""

import numpy as np
import numpy_twin as twin
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.losses import sequence_loss, sequence_probability, until_eos

N, T, V = 3, 4, 11


def samples():
    random = np.random.RandomState(7)
    return dict(logits=2 * random.normal(size=[N, T, V]).astype(np.float32),
                targets=random.randint(3, V, [N, T]).astype(np.int32),
                weights=np.float32([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]))


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary(run_graph):
    got = run_graph(sequence_loss, **{**samples(), "logits": np.full([N, T, V], -3.0, np.float32)})
    assert got.shape == (N,)
    np.testing.assert_allclose(got, [np.log(V)] * N, rtol=1e-6)


def test_the_loss_is_a_mean_over_the_steps_that_count(run_graph):
    probabilities = np.array([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.9, 0.05, 0.05]]])
    feed = dict(logits=np.log(probabilities).astype(np.float32), targets=np.array([[0, 2, 0]], np.int32),
                weights=np.float32([[1, 1, 0]]))
    np.testing.assert_allclose(run_graph(sequence_loss, **feed), [(np.log(2) + np.log(8)) / 2], rtol=1e-6)


def test_the_loss_is_the_twins(run_graph):
    feed = samples()
    expected = [twin.sequence_loss(*sample) for sample in zip(*feed.values())]
    assert len(set(expected)) == N
    np.testing.assert_allclose(run_graph(sequence_loss, **feed), expected, rtol=1e-5)


def test_steps_that_do_not_count_change_nothing_and_learn_nothing(bench):
    def build(logits, targets, weights):
        loss = sequence_loss(logits, targets, weights)
        return loss, tf.gradients(loss, logits)[0]

    feed = samples()
    network = bench(build, feed)
    loss, gradient = network.run(**feed)
    off = feed["weights"] == 0
    assert (gradient[off] == 0).all()
    assert (np.abs(gradient[~off]).max(-1) > 1e-3).all()
    feed["logits"][off] = 1e4 * np.arange(V)
    feed["targets"][off] = 0
    np.testing.assert_array_equal(network.run(**feed)[0], loss)


def test_a_sample_without_a_step_that_counts_costs_nothing(run_graph):
    assert run_graph(sequence_loss, **{**samples(), "weights": np.zeros([N, T], np.float32)}).tolist() == [0.0] * N


def test_until_eos(run_graph):
    table = [
        ([5, 6, 7, 8], [1, 1, 1, 1]),  # no EOS: all
        ([5, 2, 7, 2], [1, 1, 0, 0]),  # the first EOS counts, the second does not
        ([2, 2, 3, 4], [1, 0, 0, 0]),
        ([0, 1, 3, 2], [1, 1, 1, 1]),  # padding and GO end nothing
        ([9, 2, 2, 2], [1, 1, 0, 0]),
    ]
    got = run_graph(until_eos, ids=np.array([ids for ids, _ in table], np.int32))
    assert got.dtype == np.float32
    assert got.tolist() == [expected for _, expected in table]


def chosen(*rows):
    """Returns logits and ids of images with steps (id, probability); the other ids share the rest."""
    logits, ids = np.zeros([len(rows), len(rows[0]), V], np.float32), np.zeros([len(rows), len(rows[0])], np.int32)
    for n, row in enumerate(rows):
        for t, (step_id, probability) in enumerate(row):
            logits[n, t] = np.log((1 - probability) / (V - 1))
            logits[n, t, step_id] = np.log(probability)
            ids[n, t] = step_id
    return dict(logits=logits, ids=ids)


def test_a_probability_is_the_product_up_to_and_including_eos(run_graph):
    got = run_graph(sequence_probability, **chosen(
        [(5, 0.5), (3, 0.75), (2, 0.8), (7, 0.3)],
        [(2, 0.6), (2, 0.25), (9, 0.9), (4, 0.2)],
        [(5, 0.5), (3, 0.75), (4, 0.8), (7, 0.3)],  # no EOS: all of it
    ))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [0.5 * 0.75 * 0.8, 0.6, 0.5 * 0.75 * 0.8 * 0.3], rtol=1e-6)


def test_what_follows_eos_does_not_change_a_probability(bench):
    first, other = chosen([(5, 0.5), (2, 0.8), (7, 0.3)]), chosen([(5, 0.5), (2, 0.8), (2, 0.99)])
    network = bench(sequence_probability, first)
    np.testing.assert_array_equal(network.run(**first), network.run(**other))


def test_the_probability_is_the_twins(run_graph):
    logits = 3 * np.random.RandomState(1).normal(size=[N, T, V]).astype(np.float32)
    logits[0, 1, 2] = 9.0  # EOS in the middle
    expected = [twin.sequence_probability(sample) for sample in logits]
    got = run_graph(sequence_probability, logits=logits, ids=logits.argmax(2).astype(np.int32))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 5000.0])
def test_a_long_unsure_reading_does_not_become_0(run_graph, shift):
    logits = np.full([1, 200, V], shift, np.float32)
    got = run_graph(sequence_probability, logits=logits, ids=np.full([1, 200], 5, np.int32))
    np.testing.assert_allclose(np.log(got), [-200 * np.log(V)], rtol=1e-9)  # e^-480; float32 ends at e^-103


def test_smoothing_spreads_a_share_over_all_ids(run_graph):
    """One step, ids of probability 1/2, 1/4, 1/4, the first one the target: 0.7 ln 2 + 0.3 (ln 2 + 2 ln 4) / 3."""
    got = run_graph(lambda **given: sequence_loss(smoothing=0.3, **given),
                    logits=np.log(np.array([[[0.5, 0.25, 0.25]]], np.float32)), targets=np.zeros([1, 1], np.int32),
                    weights=np.ones([1, 1], np.float32))
    np.testing.assert_allclose(got, [0.7 * np.log(2) + 0.3 * (np.log(2) + 2 * np.log(4)) / 3], rtol=1e-6)
