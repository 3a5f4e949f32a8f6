"""The attention decoder, against hand-computed values and the NumPy twin."""

import numpy as np
import numpy_twin as twin
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.decoder import AttentionDecoder, TeacherForcing
from aocr.graph.encoder import EncoderOutput
from aocr.graph.layers import GRUState, LSTMState

N, S, DEPTH, U, V, T, EMBEDDING, ENCODER_UNITS = 3, 7, 6, 5, 11, 4, 2, 8
EOS = 2
LENGTHS = np.array([4, 7, 1], np.int32)
TEACHER = np.array([[1, 5, 9, 3], [1, 10, 10, 2], [1, 2, 0, 7]], np.int32)

kinds = pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])
depths = pytest.mark.parametrize("layers", [1, 3])


def encoded_feed(use_gru, garbage=0.0, depth=DEPTH):
    """Returns a possible encoder output, with `garbage` in the padding."""
    random = np.random.RandomState(3)
    memory = random.normal(size=[N, S, depth]).astype(np.float32)
    memory[np.arange(S) >= LENGTHS[:, np.newaxis]] = garbage
    states = {f"{direction}_{name}": random.normal(size=[N, ENCODER_UNITS]).astype(np.float32)
              for direction in ("forward", "backward") for name in state_names(use_gru)}
    return dict(memory=memory, lengths=LENGTHS, **states)


def state_names(use_gru):
    return (GRUState if use_gru else LSTMState)._fields


def decoder_of(use_gru, layers, memory, lengths, **states):
    kind = GRUState if use_gru else LSTMState
    ends = [kind(*(states[f"{direction}_{name}"] for name in kind._fields)) for direction in ("forward", "backward")]
    return AttentionDecoder(EncoderOutput(memory, lengths, *ends), vocabulary=V, layers=layers, units=U,
                            attention_units=0, embedding_size=EMBEDDING, use_gru=use_gru)


def restless(use_gru, layers):
    """Returns weights that write many characters, and EOS at a different step for each image: found by trying seeds."""
    seeds = {(False, 1): 699, (False, 3): 2335, (True, 1): 994, (True, 3): 1753}
    random = np.random.RandomState(seeds[use_gru, layers])
    return {"decoder/embedding": 2 * random.normal(size=[V, EMBEDDING]),
            "decoder/output/kernel": 2 * random.normal(size=[U + DEPTH, V]), **output_bias()}


def taught(use_gru, layers):
    def build(teacher, **encoded):
        return decoder_of(use_gru, layers, **encoded).decode(tf.shape(teacher)[1], TeacherForcing(teacher))
    return build


def greedy(use_gru, layers):
    """Takes the number of steps from the feed."""
    def build(steps, **encoded):
        return decoder_of(use_gru, layers, **encoded).decode(steps)
    return build


def output_bias(**values):
    """Returns an output bias with the given ids' values: b_2=9.0 is that of id 2."""
    bias = np.zeros(V, np.float32)
    for name, value in values.items():
        bias[int(name.removeprefix("b_"))] = value
    return {"decoder/output/bias": bias}


def twins_start(weights, feed, n, layers, use_gru):
    """Returns an image's memory and the decoder's initial states."""
    forward, backward = ({name: feed[f"{direction}_{name}"][n] for name in state_names(use_gru)}
                         for direction in ("forward", "backward"))
    return (feed["memory"][n, :LENGTHS[n]].astype(np.float64),
            twin.bridge(weights, "decoder/hand_over", forward, backward, layers))


# ---- against the twin

@kinds
@depths
def test_teacher_forcing_is_the_twins(bench, use_gru, layers):
    feed = encoded_feed(use_gru)
    network = bench(taught(use_gru, layers), dict(feed, teacher=TEACHER))
    got = network.run(**feed, teacher=TEACHER)
    assert got.logits.shape == (N, T, V) and got.attention.shape == (N, T, S)
    assert got.ids.dtype == np.int32
    np.testing.assert_array_equal(got.ids, got.logits.argmax(2))
    for n in range(N):
        logits, attention = twin.decode_taught(
            network.weights, "decoder", *twins_start(network.weights, feed, n, layers, use_gru), use_gru, TEACHER[n])
        np.testing.assert_allclose(got.logits[n], logits, atol=1e-4)
        np.testing.assert_allclose(got.attention[n, :, :LENGTHS[n]], attention, atol=1e-4)
        assert not got.attention[n, :, LENGTHS[n]:].any()
    assert np.abs(np.diff(got.attention[:2], axis=1)).max() > 0.01, "the attention does not move"


@kinds
@depths
def test_greedy_decoding_is_the_twins(bench, use_gru, layers):
    """The images reach EOS at different steps; the loop runs until the last of them."""
    feed, steps = encoded_feed(use_gru), 13
    network = bench(greedy(use_gru, layers), dict(feed, steps=np.int32(0)), restless(use_gru, layers))
    got = network.run(**feed, steps=steps)
    ended = []
    for n in range(N):
        logits, attention, ids = twin.decode_greedy(
            network.weights, "decoder", *twins_start(network.weights, feed, n, layers, use_gru), use_gru, steps)
        written = got.logits.shape[1]
        np.testing.assert_allclose(got.logits[n], logits[:written], atol=1e-4)
        np.testing.assert_allclose(got.attention[n, :, :LENGTHS[n]], attention[:written], atol=1e-4)
        assert got.ids[n].tolist() == ids[:written]
        ended.append(ids.index(EOS) + 1)
    assert len(set(ended)) == N and max(ended) < steps, "the weights of this test show nothing"
    assert got.logits.shape == (N, max(ended), V)


@kinds
@depths
def test_greedy_taught_with_its_own_ids_is_itself(bench, use_gru, layers):
    def build(**encoded):
        decoder = decoder_of(use_gru, layers, **encoded)
        free = decoder.decode(T + 1)
        own = tf.concat([tf.fill([tf.shape(free.ids)[0], 1], 1), free.ids[:, :-1]], 1)
        return free, decoder.decode(tf.shape(own)[1], TeacherForcing(own))

    feed = encoded_feed(use_gru)
    free, retold = bench(build, feed, output_bias(b_2=-9.0)).run(**feed)
    assert free.logits.shape == (N, T + 1, V)
    assert len(set(free.ids.ravel())) > 2, "the same character all along"
    np.testing.assert_allclose(retold.logits, free.logits, atol=1e-6)
    np.testing.assert_allclose(retold.attention, free.attention, atol=1e-6)


# ---- the end of the loop

def test_greedy_ends_when_all_images_have_ended(bench):
    feed = encoded_feed(False)
    at_once = bench(greedy(False, 2), dict(feed, steps=np.int32(0)), output_bias(b_2=99.0))
    assert at_once.run(**feed, steps=13).ids.tolist() == [[EOS]] * N
    never = bench(greedy(False, 2), dict(feed, steps=np.int32(0)), output_bias(b_7=99.0))
    assert never.run(**feed, steps=13).ids.tolist() == [[7] * 13] * N


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_greedy_is_bounded_by_its_steps(bench, steps):
    feed = encoded_feed(True)
    got = bench(greedy(True, 1), dict(feed, steps=np.int32(0)), output_bias(b_2=-99.0)).run(**feed, steps=steps)
    assert got.logits.shape == (N, steps, V)
    assert got.attention.shape == (N, steps, S)
    assert got.ids.shape == (N, steps)


def test_one_image_that_goes_on_keeps_the_others_company(bench):
    """The output depends on the memory alone: images 0 and 2 write EOS from the start, image 1 never."""
    kernel = np.zeros([U + DEPTH, V], np.float32)
    kernel[U, EOS], kernel[U, 8] = 1, -1  # the first component of the context yields EOS if positive, 8 if negative
    feed = encoded_feed(False)
    feed["memory"][:, :, 0] = [[5], [-5], [5]]
    got = bench(greedy(False, 1), dict(feed, steps=np.int32(0)), {
        **output_bias(), "decoder/output/kernel": kernel}).run(**feed, steps=6)
    assert got.ids.tolist() == [[EOS] * 6, [8] * 6, [EOS] * 6]


def test_teacher_forcing_does_not_end_at_eos(bench):
    feed = dict(encoded_feed(False), teacher=TEACHER)
    got = bench(taught(False, 1), feed, output_bias(b_2=99.0)).run(**feed)
    assert got.ids.tolist() == [[EOS] * T] * N


# ---- attention

def test_attention_that_scores_nothing_is_the_mean_of_an_images_own_steps(bench):
    """With v = 0 all scores are 0: each own step has weight 1 / length, and the context is the plain mean."""
    kernel = np.zeros([U + DEPTH, V], np.float32)
    kernel[U:, :DEPTH] = np.eye(DEPTH)  # logits 0 to 5 show the context
    feed = dict(encoded_feed(False, garbage=1e3), teacher=TEACHER)
    got = bench(taught(False, 2), feed, {
        **output_bias(), "decoder/output/kernel": kernel,
        "decoder/attention/v": np.zeros([DEPTH, 1], np.float32)}).run(**feed)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_allclose(got.attention[n], [[1 / length] * length + [0] * (S - length)] * T, atol=1e-6)
        mean = sum(feed["memory"][n, s] for s in range(length)) / length
        np.testing.assert_allclose(got.logits[n, :, :DEPTH], [mean] * T, atol=1e-5)


def test_attention_by_hand(bench):
    """One unit that sees the memory but not the state: scores 3 tanh(m), for m = 0, 1, -1."""
    feed = dict(encoded_feed(True, depth=1), teacher=TEACHER[:1])
    feed = {name: value[:1] for name, value in feed.items()}
    feed["memory"] = np.float32([0, 1, -1, 77]).reshape(1, 4, 1)
    feed["lengths"] = np.array([3], np.int32)
    got = bench(taught(True, 1), feed, {
        "decoder/attention/v": np.float32([[3]]), "decoder/attention/memory": np.float32([[1]]),
        "decoder/attention/query/kernel": np.zeros([U, 1], np.float32),
        "decoder/attention/query/bias": np.zeros([1], np.float32)}).run(**feed)
    e = np.exp(3 * np.tanh([0.0, 1.0, -1.0]))
    np.testing.assert_allclose(got.attention[0], [[*(e / e.sum()), 0]] * T, atol=1e-6)


@kinds
def test_attention_never_touches_what_is_beyond_an_image(bench, use_gru):
    def build(teacher, **encoded):
        got = decoder_of(use_gru, 2, **encoded).decode(T, TeacherForcing(teacher))
        return got, tf.gradients(tf.reduce_sum(got.logits[:, :, ::3]), encoded["memory"])[0]

    feed = dict(encoded_feed(use_gru), teacher=TEACHER)
    network = bench(build, feed)
    clean, gradient = network.run(**feed)
    dirty, dirty_gradient = network.run(**dict(feed, memory=encoded_feed(use_gru, garbage=1e3)["memory"]))
    np.testing.assert_allclose(dirty.logits, clean.logits, atol=1e-6)
    np.testing.assert_allclose(dirty.attention, clean.attention, atol=1e-6)
    np.testing.assert_allclose(clean.attention.sum(2), np.ones([N, T]), atol=1e-5)
    outside = np.arange(S) >= LENGTHS[:, np.newaxis]
    assert (dirty.attention.transpose(0, 2, 1)[outside] == 0).all()
    assert (gradient[outside] == 0).all() and (dirty_gradient[outside] == 0).all()
    assert (np.abs(gradient[~outside]).max(1) > 1e-5).all()


def test_the_memory_may_be_wider(bench):
    feed = dict(encoded_feed(False), teacher=TEACHER)
    network = bench(taught(False, 2), feed)
    wide = dict(feed, memory=np.pad(feed["memory"], [[0, 0], [0, 5], [0, 0]], constant_values=40.0))
    np.testing.assert_allclose(network.run(**wide).logits, network.run(**feed).logits, atol=1e-6)


# ---- weights

@kinds
@depths
def test_layers_have_weights_of_their_own(bench, use_gru, layers):
    def build(teacher, **encoded):
        logits = decoder_of(use_gru, layers, **encoded).decode(T, TeacherForcing(teacher)).logits
        return {variable.op.name: tf.norm(gradient) for variable, gradient in zip(
            tf.trainable_variables(),
            tf.gradients(tf.reduce_sum(tf.square(logits)), tf.trainable_variables(),
                         unconnected_gradients=tf.UnconnectedGradients.ZERO))}

    feed = dict(encoded_feed(use_gru), teacher=TEACHER)
    network = bench(build, feed)
    parts = len(state_names(use_gru))
    shapes = {
        "embedding": (V, EMBEDDING), "input/kernel": (EMBEDDING + DEPTH, U), "input/bias": (U,),
        "attention/query/kernel": (layers * parts * U, DEPTH), "attention/query/bias": (DEPTH,),
        "attention/v": (DEPTH, 1), "attention/memory": (DEPTH, DEPTH), "output/kernel": (U + DEPTH, V),
        "output/bias": (V,)}
    for name in state_names(use_gru):
        shapes[f"hand_over/{name}/kernel"] = (2 * ENCODER_UNITS, layers * U)
        shapes[f"hand_over/{name}/bias"] = (layers * U,)
    for k in range(layers):
        if use_gru:
            shapes[f"layer{k}/gates/kernel"], shapes[f"layer{k}/gates/bias"] = (2 * U, 2 * U), (2 * U,)
            shapes[f"layer{k}/candidate/kernel"], shapes[f"layer{k}/candidate/bias"] = (2 * U, U), (U,)
        else:
            shapes[f"layer{k}/kernel"], shapes[f"layer{k}/bias"] = (2 * U, 4 * U), (4 * U,)
    assert {name: value.shape for name, value in network.weights.items()} == {
        f"decoder/{name}": shape for name, shape in shapes.items()}
    norms = network.run(**feed)
    assert set(norms) == set(network.weights)
    assert min(norms.values()) > 1e-3, min(norms, key=norms.get)


def test_the_forget_gates_start_at_the_forget_bias(bench):
    initial = bench(taught(False, 2), dict(encoded_feed(False), teacher=TEACHER)).initial
    for k in range(2):
        np.testing.assert_array_equal(initial[f"decoder/layer{k}/bias"], [0] * 2 * U + [0] * U + [0] * U)


@kinds
def test_decoding_twice_makes_no_weights(use_gru):
    with tf.Graph().as_default():
        feed = encoded_feed(use_gru)
        decoder = decoder_of(use_gru, 2, **{name: tf.constant(value) for name, value in feed.items()})
        before = tf.global_variables()
        decoder.decode(3)
        decoder.decode(2, TeacherForcing(tf.constant(TEACHER)))
        assert tf.global_variables() == before


# ---- size of the graph

def graph_of(use_gru, count, steps, width, teacher):
    """Returns the graph of a decoder of these static sizes."""
    with tf.Graph().as_default() as graph:
        feed = encoded_feed(use_gru)
        encoded = {name: tf.placeholder(value.dtype, [count, *value.shape[1:]]) for name, value in feed.items()}
        encoded["memory"] = tf.placeholder(tf.float32, [count, width, DEPTH])
        decoder_of(use_gru, 2, **encoded).decode(
            steps, TeacherForcing(tf.placeholder(tf.int32, [count, steps])) if teacher else None)
    return graph


@kinds
@pytest.mark.parametrize("teacher", [False, True], ids=["greedy", "taught"])
def test_the_graph_does_not_grow_with_the_sizes(use_gru, teacher, count_nodes):
    small, large = (count_nodes(graph_of(use_gru, *sizes, teacher)) for sizes in [(3, 4, 7), (5, 61, 97)])
    assert small == large > 50
