"""Recurrent cells against the NumPy twin, batch norm against hand-computed values."""

import numpy as np
import numpy_twin as twin
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.layers import (
    BATCH_NORM_EPSILON,
    GRUCell,
    GRUState,
    Initializers,
    Linear,
    LSTMCell,
    LSTMState,
    batch_norm,
    conv,
    run_gru,
    run_lstm,
)

N, S, INPUTS, U = 3, 7, 4, 5


def normal(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, expected, atol=atol)


def lstm_cell(name, forget_bias):
    return LSTMCell(name, INPUTS, U, Initializers(forget_bias=forget_bias))


# ---- recurrent cells

def test_an_lstm_step_is_the_twins(bench):
    feed = dict(x=normal(N, INPUTS), cell=normal(N, U, seed=1), hidden=normal(N, U, seed=2))
    network = bench(lambda x, cell, hidden: lstm_cell("lstm", 1.0)(x, LSTMState(cell, hidden)), feed)
    got = network.run(**feed)
    for n in range(N):
        expected = twin.lstm_step(network.weights, "lstm", feed["x"][n],
                                  dict(cell=feed["cell"][n], hidden=feed["hidden"][n]))
        close(got.cell[n], expected["cell"])
        close(got.hidden[n], expected["hidden"])


def test_a_gru_step_is_the_twins(bench):
    feed = dict(x=normal(N, INPUTS), hidden=normal(N, U, seed=2))
    network = bench(lambda x, hidden: GRUCell("gru", INPUTS, U)(x, GRUState(hidden)), feed)
    got = network.run(**feed)
    for n in range(N):
        expected = twin.gru_step(network.weights, "gru", feed["x"][n], dict(hidden=feed["hidden"][n]))
        close(got.hidden[n], expected["hidden"])


@pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
def test_a_sequence_is_the_twins_and_its_cells(bench, use_gru):
    def build(x):
        cell = GRUCell("cell", INPUTS, U) if use_gru else lstm_cell("cell", 1.0)
        fused = run_gru(cell, x) if use_gru else run_lstm(cell, x)
        state, steps = cell.state(*[tf.zeros([N, U])] * len(cell.state._fields)), []
        for t in range(S):
            state = cell(x[t], state)
            steps.append(state)
        return fused._asdict(), [step._asdict() for step in steps]

    x = normal(S, N, INPUTS)
    network = bench(build, dict(x=x))
    fused, steps = network.run(x=x)
    assert set(fused) == ({"hidden"} if use_gru else {"cell", "hidden"})
    for name, values in fused.items():
        assert values.shape == (S, N, U)
        close(values, [step[name] for step in steps])
        for n in range(N):
            expected = twin.sequence(network.weights, "cell", x[:, n], use_gru)
            close(values[:, n], [state[name] for state in expected])


@pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
def test_a_sequence_of_one_step_and_one_of_none(bench, use_gru):
    def build(x):
        return run_gru(GRUCell("cell", INPUTS, U), x) if use_gru else run_lstm(lstm_cell("cell", 1.0), x)

    x = normal(S, N, INPUTS)
    network = bench(build, dict(x=x))
    close(network.run(x=x[:1]).hidden, network.run(x=x).hidden[:1])
    assert network.run(x=x[:, :0]).hidden.shape == (S, 0, U)


def test_large_cell_values_are_not_clipped(bench):
    """A cell whose input and forget gates are open counts its steps: 1, 2, 3, ..."""
    open_gates = np.repeat(np.float32([100, 100, 100, 0]), U)  # input, candidate, forget, output
    x = np.zeros([S, N, INPUTS], np.float32)
    steps = bench(lambda x: run_lstm(lstm_cell("lstm", 1.0), x), dict(x=x), {
        "lstm/kernel": np.zeros([INPUTS + U, 4 * U], np.float32), "lstm/bias": open_gates}).run(x=x)
    close(steps.cell, np.broadcast_to(np.arange(1.0, S + 1)[:, np.newaxis, np.newaxis], [S, N, U]))
    close(steps.hidden, 0.5 * np.tanh(steps.cell))


def test_the_forget_bias_is_the_start_of_the_forget_gates_bias(bench):
    feed = dict(x=np.zeros([N, INPUTS], np.float32), cell=np.ones([N, U], np.float32),
                hidden=np.zeros([N, U], np.float32))
    network = bench(lambda x, cell, hidden: lstm_cell("lstm", 2.5)(x, LSTMState(cell, hidden)), feed)
    close(network.initial["lstm/bias"], [0] * 2 * U + [2.5] * U + [0] * U)
    # Nothing is added to the variable: sigmoid(2.5) of the cell stays, or half of it with a bias of 0.
    kernel = np.zeros([INPUTS + U, 4 * U], np.float32)
    for start, kept in [(2.5, 0.9241418), (0.0, 0.5)]:
        bias = np.repeat(np.float32([0, 0, start, 0]), U)
        one = bench(lambda x, cell, hidden: lstm_cell("lstm", 2.5)(x, LSTMState(cell, hidden)), feed,
                    {"lstm/kernel": kernel, "lstm/bias": bias})
        close(one.run(**feed).cell, np.full([N, U], kept))


def test_a_gru_keeps_its_state_where_update_is_1_and_takes_the_candidate_where_it_is_0(bench):
    feed = dict(x=normal(N, INPUTS), hidden=normal(N, 2))
    kernel = np.zeros([INPUTS + 2, 4], np.float32)
    gates = np.float32([-100, -100, 100, -100])  # reset of both units, update of the first, of the second
    candidate = np.float32([0.7, 0.7])
    got = bench(lambda x, hidden: GRUCell("gru", INPUTS, 2)(x, GRUState(hidden)), feed, {
        "gru/gates/kernel": kernel, "gru/gates/bias": gates,
        "gru/candidate/kernel": np.vstack([kernel[:INPUTS, :2], np.full([2, 2], 9.0)]),  # sees a state reset to 0
        "gru/candidate/bias": candidate}).run(**feed)
    close(got.hidden[:, 0], feed["hidden"][:, 0])
    close(got.hidden[:, 1], np.full([N], np.tanh(0.7)))


@pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
def test_what_a_sequence_learns_is_the_finite_difference(bench, use_gru):
    """The gradient of the sum of all hidden states with respect to a weight of the first kernel."""
    name = "cell/gates/kernel" if use_gru else "cell/kernel"

    def build(x):
        cell = GRUCell("cell", INPUTS, U) if use_gru else lstm_cell("cell", 1.0)
        total = tf.reduce_sum((run_gru if use_gru else run_lstm)(cell, x).hidden)
        return tf.gradients(total, tf.trainable_variables()[0])[0]

    x = normal(S, N, INPUTS)
    network = bench(build, dict(x=x))
    assert network.trainable[0] == name

    def total(row, column, by):
        weights = {**network.weights, name: network.weights[name].copy()}
        weights[name][row, column] += by
        return sum(state["hidden"].sum() for n in range(N)
                   for state in twin.sequence(weights, "cell", x[:, n], use_gru))

    gradient = network.run(x=x)
    for row, column in [(0, 0), (INPUTS + 2, 3), (1, 2 * U - 1)]:
        close(gradient[row, column], (total(row, column, 1e-4) - total(row, column, -1e-4)) / 2e-4, 1e-3)


def test_a_fused_lstm_learns_what_its_steps_would(bench):
    """Gradients of inputs and weights, for a loss in which every state of every step has its own weight."""

    def build(x, by_cell, by_hidden):
        cell = lstm_cell("lstm", 1.0)
        state, steps = LSTMState(tf.zeros([N, U]), tf.zeros([N, U])), []
        for t in range(S):
            state = cell(x[t], state)
            steps.append(state)
        stepwise = LSTMState(*map(tf.stack, zip(*steps)))
        return [tf.gradients(tf.reduce_sum(states.cell * by_cell + states.hidden * by_hidden),
                             [x, cell.kernel, cell.bias]) for states in (run_lstm(cell, x), stepwise)]

    feed = dict(x=normal(S, N, INPUTS), by_cell=normal(S, N, U, seed=1), by_hidden=normal(S, N, U, seed=2))
    for fused, stepwise in zip(*bench(build, feed).run(**feed)):
        assert np.abs(stepwise).max() > 0.1
        close(fused, stepwise)


# ---- linear and convolution

def test_linear_by_hand(bench):
    x = np.float32([[1, 2], [0, -1], [3, 0]])
    got = bench(lambda x: Linear("linear", 2, 1)(x), dict(x=x), {
        "linear/kernel": np.float32([[10], [1]]), "linear/bias": np.float32([0.5])}).run(x=x)
    close(got, [[12.5], [-0.5], [30.5]])


def test_linear_starts_without_bias(bench):
    initial = bench(lambda x: Linear("linear", 4, 3)(x), dict(x=normal(2, 4))).initial
    assert not initial["linear/bias"].any()
    assert initial["linear/kernel"].std() > 0


def test_a_convolution_takes_zeros_beyond_the_edge(bench):
    x = np.float32([[1, 2, 3], [4, 5, 6]])[np.newaxis, :, :, np.newaxis]
    got = bench(lambda x: conv(x, 1, (3, 3)), dict(x=x), {"kernel": np.ones([3, 3, 1, 1], np.float32)}).run(x=x)
    close(got[0, :, :, 0], [[12, 21, 16], [12, 21, 16]])  # each of the two rows sees both


# ---- batch norm

GARBAGE = 1e3


def mask_of(widths, width):
    return (np.arange(width) < np.array(widths)[:, np.newaxis])[:, np.newaxis, :, np.newaxis].astype(np.float32)


def norm(is_training):
    return lambda x, mask: batch_norm(x, mask, is_training)


def test_batch_norm_moments_by_hand(bench):
    """Two images of 2 and 1 columns, 2 pixels high, with pixels 1, 2, 3, 6 and -1, 1: mean 2, variance 28/6."""
    x = np.float32([[[1, 2, GARBAGE], [3, 6, GARBAGE]], [[-1, GARBAGE, GARBAGE], [1, GARBAGE, GARBAGE]]])
    x = np.stack([x, 10 * x], 3)  # the second channel has its own moments
    feed = dict(x=x, mask=mask_of([2, 1], 3))
    network = bench(norm(True), feed, dict(gamma=np.float32([3, 1]), beta=np.float32([0.25, 0])))
    normalised, moments = network.run(**feed)
    # The squared deviations are 1, 0, 1, 16, 9, 1.
    mean, variance = np.array([2, 20]), np.array([28 / 6, 2800 / 6])
    close(moments.mean, mean)
    close(moments.variance, variance, 1e-4)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * [3, 1] + [0.25, 0]
    close(normalised * feed["mask"], expected * feed["mask"])
    close(normalised[0, 1, 1, 0], 0.25 + 3 * 4 / np.sqrt(28 / 6 + 1e-3))
    assert BATCH_NORM_EPSILON == 1e-3


def test_batch_norm_does_not_look_into_the_padding(bench):
    mask = mask_of([4, 1, 6], 6)
    x = normal(3, 2, 6, 5)
    network = bench(norm(True), dict(x=x, mask=mask))
    clean, clean_moments = network.run(x=x * mask, mask=mask)
    dirty, dirty_moments = network.run(x=x * mask + GARBAGE * (1 - mask), mask=mask)
    close(dirty_moments.mean, clean_moments.mean, 1e-6)
    close(dirty_moments.variance, clean_moments.variance, 1e-6)
    close(dirty * mask, clean * mask, 1e-6)
    wide, wide_moments = network.run(x=np.pad(x, [[0, 0], [0, 0], [0, 3], [0, 0]]), mask=mask_of([4, 1, 6], 9))
    close(wide_moments.mean, clean_moments.mean, 1e-6)
    close(wide[:, :, :6] * mask, clean * mask, 1e-5)


def test_batch_norm_in_training_leaves_mean_0_and_variance_1(bench):
    mask = mask_of([4, 1, 6], 6)
    feed = dict(x=5 + 7 * normal(3, 2, 6, 4), mask=mask)
    normalised, _ = bench(norm(True), feed, dict(gamma=np.ones(4, np.float32), beta=np.zeros(4, np.float32))).run(
        **feed)
    kept = normalised[np.broadcast_to(mask > 0, normalised.shape)].reshape(-1, 4)
    assert len(kept) == 2 * (4 + 1 + 6)
    close(kept.mean(0), np.zeros(4))
    close(kept.var(0), np.ones(4), 1e-3)


def test_batch_norm_in_inference_uses_the_population(bench):
    feed = dict(x=np.float32([7, 3]).reshape(1, 1, 1, 2), mask=mask_of([1], 1))
    normalised, moments = bench(norm(False), feed, dict(
        population_mean=np.float32([3, -1]), population_variance=np.float32([4 - 1e-3, 1 - 1e-3]),
        gamma=np.float32([10, 1]), beta=np.float32([1, -1]))).run(**feed)
    close(normalised[0, 0, 0], [10 * (7 - 3) / 2 + 1, 4 - 1])
    close(moments.mean, [3, -1])
    close(moments.population_mean, [3, -1])
    close(moments.population_variance, [4 - 1e-3, 1 - 1e-3])


def test_batch_norm_starts_as_the_identity_and_learns_scale_and_offset_only(bench):
    feed = dict(x=normal(2, 3, 5, 4), mask=mask_of([5, 3], 5))
    network = bench(norm(True), feed)
    assert network.trainable == ["gamma", "beta"]
    for name, value in dict(gamma=1, beta=0, population_mean=0, population_variance=1).items():
        assert (network.initial[name] == value).all() and network.initial[name].shape == (4,)


def test_training_does_not_change_the_population(bench):
    feed = dict(x=normal(2, 3, 5, 4), mask=mask_of([5, 3], 5))
    network = bench(norm(True), feed)
    _, first = network.run(**feed)
    _, second = network.run(**feed)
    close(second.population_mean, first.population_mean, 0)
    close(second.population_mean, network.weights["population_mean"], 1e-6)
