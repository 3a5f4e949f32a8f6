"""The bidirectional encoder and the bridge to the decoder, against the NumPy twin."""

import numpy as np
import numpy_twin as twin
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.encoder import EncoderOutput, bidirectional_encoder, bridge
from aocr.graph.layers import GRUState, LSTMState

N, S, F, U = 3, 7, 6, 5
LENGTHS = np.array([4, 7, 1], np.int32)

kinds = pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])


def features(width=S, garbage=0.0):
    """Returns noise in each image's own steps, `garbage` in the padding."""
    x = np.random.RandomState(5).normal(size=[N, S, F]).astype(np.float32)
    x = np.pad(x, [[0, 0], [0, width - S], [0, 0]])
    x[np.arange(width) >= LENGTHS[:, np.newaxis]] = garbage
    return x


def reader(bench, use_gru):
    return bench(lambda features, lengths: bidirectional_encoder(features, lengths, units=U, use_gru=use_gru),
                 dict(features=features(), lengths=LENGTHS))


# ---- reading

@kinds
def test_the_encoder_is_the_twin(bench, use_gru):
    network = reader(bench, use_gru)
    got = network.run(features=features(), lengths=LENGTHS)
    assert got.memory.shape == (N, S, 2 * U)
    assert got.lengths.tolist() == LENGTHS.tolist()
    assert isinstance(got.forward, GRUState if use_gru else LSTMState)
    for n, length in enumerate(LENGTHS):
        memory, forward, backward = twin.encode(network.weights, "encoder", features()[n, :length], use_gru)
        np.testing.assert_allclose(got.memory[n, :length], memory, atol=1e-5)
        assert not got.memory[n, length:].any()
        for name, value in forward.items():
            np.testing.assert_allclose(getattr(got.forward, name)[n], value, atol=1e-5)
        for name, value in backward.items():
            np.testing.assert_allclose(getattr(got.backward, name)[n], value, atol=1e-5)


@kinds
def test_the_final_states_are_those_at_an_images_own_ends(bench, use_gru):
    got = reader(bench, use_gru).run(features=features(), lengths=LENGTHS)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(got.forward.hidden[n], got.memory[n, length - 1, :U])  # the last column
        np.testing.assert_array_equal(got.backward.hidden[n], got.memory[n, 0, U:])  # the first column
    assert not np.allclose(got.backward.hidden[0], got.memory[0, LENGTHS[0] - 1, U:], atol=1e-3)


@kinds
def test_what_an_image_gives_does_not_depend_on_its_padding(bench, use_gru):
    network = reader(bench, use_gru)
    expected = network.run(features=features(), lengths=LENGTHS)
    for x in (features(garbage=50.0), features(S + 4), features(S + 4, garbage=-50.0)):
        got = network.run(features=x, lengths=LENGTHS)
        np.testing.assert_allclose(got.memory[:, :S], expected.memory, atol=1e-6)
        assert not got.memory[:, S:].any()
        for direction in ("forward", "backward"):
            np.testing.assert_allclose(getattr(got, direction), getattr(expected, direction), atol=1e-6)
    for n, length in enumerate(LENGTHS):
        alone = network.run(features=features()[n:n + 1, :length], lengths=[length])
        np.testing.assert_allclose(alone.memory[0], expected.memory[n, :length], atol=1e-6)
        np.testing.assert_allclose(alone.backward.hidden[0], expected.backward.hidden[n], atol=1e-6)


@kinds
def test_padding_learns_nothing(run_graph, use_gru):
    def build(features, lengths):
        encoded = bidirectional_encoder(features, lengths, units=U, use_gru=use_gru)
        return tf.gradients([encoded.memory, encoded.forward, encoded.backward], features)[0]

    gradient = np.abs(run_graph(build, features=features(), lengths=LENGTHS)).max(2)
    inside = np.arange(S) < LENGTHS[:, np.newaxis]
    assert (gradient[inside] > 1e-4).all()
    assert (gradient[~inside] == 0).all()


@kinds
def test_both_directions_have_weights_of_their_own(bench, use_gru):
    network = reader(bench, use_gru)
    parts = ["gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"] if use_gru else ["kernel", "bias"]
    assert set(network.trainable) == set(network.weights) == {
        f"encoder/{direction}/{part}" for direction in ("forward", "backward") for part in parts}


def test_the_forget_gates_start_at_the_forget_bias(bench):
    initial = reader(bench, False).initial
    for direction in ("forward", "backward"):
        np.testing.assert_array_equal(initial[f"encoder/{direction}/bias"],
                                      [0] * 2 * U + [0] * U + [0] * U)


@kinds
def test_no_image(bench, use_gru):
    got = reader(bench, use_gru).run(features=np.zeros([0, 2, F], np.float32), lengths=np.zeros([0], np.int32))
    assert got.memory.shape == (0, 2, 2 * U)
    assert got.forward.hidden.shape == got.backward.hidden.shape == (0, U)


# ---- the bridge

DECODER_UNITS = 4


def ends(use_gru):
    """Returns final states of both directions, by name."""
    random = np.random.RandomState(11)
    return {f"{direction}_{name}": random.normal(size=[N, U]).astype(np.float32)
            for direction in ("forward", "backward") for name in (["hidden"] if use_gru else ["cell", "hidden"])}


def encoder_output(use_gru, states):
    def end(direction):
        names = (GRUState if use_gru else LSTMState)._fields
        return (GRUState if use_gru else LSTMState)(*(states[f"{direction}_{name}"] for name in names))
    return EncoderOutput(None, None, end("forward"), end("backward"))


@kinds
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_bridge_is_the_twins(bench, use_gru, layers):
    feed = ends(use_gru)
    network = bench(lambda **states: bridge(encoder_output(use_gru, states), layers=layers, units=DECODER_UNITS),
                    feed)
    got = network.run(**feed)
    assert len(got) == layers
    for n in range(N):
        forward, backward = ({name.split("_")[1]: value[n] for name, value in feed.items() if name.startswith(which)}
                             for which in ("forward", "backward"))
        expected = twin.bridge(network.weights, "hand_over", forward, backward, layers)
        for k in range(layers):
            assert set(got[k]._fields) == set(expected[k])
            for name, value in expected[k].items():
                assert getattr(got[k], name).shape == (N, DECODER_UNITS)
                np.testing.assert_allclose(getattr(got[k], name)[n], value, atol=1e-5)


@kinds
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_layer_starts_from_both_directions(run_graph, use_gru, layers):
    """Each part of each layer's state has a gradient from both directions' final states."""
    def build(**states):
        handed = bridge(encoder_output(use_gru, states), layers=layers, units=DECODER_UNITS)
        return [[tf.norm(tf.gradients(getattr(state, name), states[f"{direction}_{name}"])[0])
                 for direction in ("forward", "backward")] for state in handed for name in state._fields]

    norms = np.array(run_graph(build, **ends(use_gru)))
    assert norms.shape == (layers * (1 if use_gru else 2), 2)
    assert norms.min() > 1e-2


@kinds
def test_layers_start_from_different_states(run_graph, use_gru):
    handed = run_graph(lambda **states: bridge(encoder_output(use_gru, states), layers=2, units=DECODER_UNITS),
                       **ends(use_gru))
    for name in handed[0]._fields:
        assert not np.allclose(getattr(handed[0], name), getattr(handed[1], name), atol=1e-2)


def test_what_does_not_fit_together_is_refused():
    def refuse(forward, backward, message):
        with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
            bridge(EncoderOutput(None, None, *(
                type(state)(*(tf.placeholder(tf.float32, [None, size]) for size in state))
                for state in (forward, backward))), layers=2, units=DECODER_UNITS)

    refuse(LSTMState(5, 5), GRUState(5), "end in LSTMState and GRUState")
    refuse(GRUState(5), LSTMState(5, 5), "end in GRUState and LSTMState")
    refuse(GRUState(5), GRUState(6), r"final hidden states have sizes \[5, 6\]")
    refuse(LSTMState(5, 5), LSTMState(5, 6), r"final hidden states have sizes \[5, 6\]")
    refuse(LSTMState(7, 5), LSTMState(5, 5), r"final cell states have sizes \[7, 5\]")
    refuse(GRUState(None), GRUState(None), "sizes")
