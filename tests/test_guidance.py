"""Guidance of attention and CTC, against hand-computed values."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.config import TrainConfig
from aocr.graph.guidance import (
    CTC_GUIDANCE,
    GUIDANCE_CHARACTERS,
    GUIDANCE_WIDTH,
    GUIDED_STEPS,
    Diagonal,
    attention_guidance,
    ctc_guidance,
    diagonal,
    following_attention,
    following_ctc,
    guiding_loss,
    written_by_ctc,
)

BLANK = 2


def striped(columns, total):
    """Returns an image [1, 32, total, 1] with ink in these columns: stripes of two values."""
    image = np.zeros([1, 32, total, 1], np.float32)
    image[:, ::2, columns] = 0.9
    return image


@pytest.mark.parametrize("right_to_left", [False, True])
def test_the_diagonal_goes_over_the_columns_with_ink(run_graph, right_to_left):
    """Three steps of four columns: ink in all columns, in none, and in the last two columns of the second step."""
    pixels = np.concatenate([striped(range(11), 11), striped([], 11), striped([6, 7], 11)])
    got = run_graph(lambda pixels: diagonal(pixels, 4, right_to_left), pixels=pixels).written
    # In the first image the last step has three columns of eleven.
    expected = [[2 / 11, 6 / 11, 9.5 / 11], [1 / 6, 3 / 6, 5 / 6], [0.0, 0.5, 1.0]]
    np.testing.assert_allclose(1 - got if right_to_left else got, expected, atol=1e-4)


@pytest.mark.parametrize("right_to_left", [False, True])
def test_attention_on_the_diagonal_is_free_and_off_it_costs(run_graph, right_to_left):
    """Two characters and EOS over images of 6 and 3 steps: the diagonal is at 1/6, 3/6 and 5/6 of the width."""
    on_diagonal = np.zeros([2, 4, 6], np.float32)
    for n, length in enumerate([6, 3]):
        for t, place in enumerate([1 / 6, 3 / 6, 5 / 6]):
            on_diagonal[n, t, int(place * length)] = 1.0
    weights = np.float32([[1, 1, 1, 0]] * 2)
    pixels = np.concatenate([striped(range(6), 6), striped(range(3), 6)])
    if right_to_left:
        on_diagonal = np.stack([np.roll(part[:, ::-1], length, 1) for part, length in zip(on_diagonal, [6, 3])])

    def penalty(attention, weights=weights):
        return run_graph(lambda attention, weights, pixels: attention_guidance(
            attention, weights, diagonal(pixels, 1, right_to_left)),
                         attention=attention, weights=weights, pixels=pixels)

    # Of 6 steps the nearest to the diagonal is half a step, 1/12, away.
    nearest = 1 - np.exp(-0.5 * (1 / 12 / GUIDANCE_WIDTH) ** 2)
    np.testing.assert_allclose(penalty(on_diagonal), [nearest, 0.0], atol=1e-5)
    first = np.zeros_like(on_diagonal)
    first[:, :, 0] = 1.0  # always at the left end
    far = [1 - np.exp(-0.5 * (d / GUIDANCE_WIDTH) ** 2) for d in (0, 1 / 3, 2 / 3)]
    assert penalty(first)[1] == pytest.approx(np.mean(far), abs=1e-5)
    np.testing.assert_array_equal(penalty(first, 0 * weights), [0.0, 0.0])


@pytest.mark.parametrize("right_to_left", [False, True])
def test_the_diagonal_bends_to_where_ctc_finds_the_characters(run_graph, right_to_left):
    """Two characters in the last two of four steps, of which CTC is sure; in the second image it knows nothing."""
    logits = np.zeros([2, 5, 3], np.float32)
    logits[0, :, 2] = 40.0  # blank
    logits[0, 2:4, 0] = 80.0
    feed = dict(logits=logits, lengths=np.array([4, 5], np.int32), losses=np.float32([0.0, 50.0]),
                counts=np.float32([2, 3]), pixels=np.concatenate([striped(range(4), 5), striped(range(5), 5)]))

    def build(logits, lengths, losses, counts, pixels):
        even = diagonal(pixels, 1, right_to_left)
        return even, following_ctc(even, logits, lengths, losses, counts, right_to_left)

    even, got = run_graph(build, **feed)
    # Of three symbols, EOS the last, none is written before the third step, and one and a half by the fourth.
    expected = [0.0, 0.0, 0.5 / 3, 1.5 / 3]
    np.testing.assert_allclose(got.written[0, :4], expected[::-1] if right_to_left else expected, atol=1e-6)
    np.testing.assert_allclose(got.written[1], even.written[1], atol=1e-6)
    np.testing.assert_allclose(got.width, [min(GUIDANCE_WIDTH, GUIDANCE_CHARACTERS / 3), GUIDANCE_WIDTH], atol=1e-6)


def written_at(*steps, total=5):
    """Returns CTC logits [total, 3] that write a character at each of these steps and are sure of it."""
    logits = np.zeros([total, 3], np.float32)
    logits[:, BLANK] = 40.0
    logits[list(steps), 0] = 80.0
    return logits


@pytest.mark.parametrize("right_to_left", [False, True])
def test_what_ctc_has_written(run_graph, right_to_left):
    """The steps of CTC are counted in reading order, those of the result from the left."""
    logits, lengths = np.stack([written_at(1, 3), written_at(0, 1, 2)]), np.array([4, 5], np.int32)
    got = run_graph(lambda logits, lengths: written_by_ctc(logits, lengths, right_to_left), logits=logits,
                    lengths=lengths)
    expected = [[0.0, 0.25, 0.5, 0.75], [1 / 6, 3 / 6, 5 / 6, 1.0, 1.0]]
    for row, values, length in zip(got, expected, lengths):
        np.testing.assert_allclose(row[:length], values[::-1] if right_to_left else values, atol=1e-6)


@pytest.mark.parametrize("right_to_left", [False, True])
def test_the_diagonal_follows_attention(run_graph, right_to_left):
    """Two characters at the first and third of five steps and EOS at the last; the second decoder knows nothing."""
    attention = np.zeros([2, 4, 5], np.float32)
    attention[:, 0, 0] = attention[:, 1, 2] = attention[:, 2, 4] = attention[:, 3, 4] = 1.0
    even = np.float32([[0.1, 0.3, 0.5, 0.7, 0.9]] * 2)
    feed = dict(attention=attention, weights=np.float32([[1, 1, 1, 0]] * 2), losses=np.float32([0.0, 50.0]),
                written=even, width=np.float32([0.15, 0.15]))
    got = run_graph(lambda attention, weights, losses, written, width: following_attention(
        Diagonal(written, width), attention, weights, losses, right_to_left), **feed)
    expected = np.array([0.25, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_allclose(got.written, [1 - expected if right_to_left else expected, even[1]], atol=1e-6)
    np.testing.assert_array_equal(got.width, feed["width"])


def test_ctc_may_stray_by_the_width_and_pays_for_more(run_graph):
    """Text of two characters: written evenly, and all of it in the first two of five steps."""
    feed = dict(logits=np.stack([written_at(1, 3), written_at(0, 1), written_at(0, 1)]),
                lengths=np.array([5, 5, 2], np.int32), written=np.float32([[0.1, 0.3, 0.5, 0.7, 0.9]] * 2
                                                                          + [[0.25, 0.75, 1, 1, 1]]),
                width=np.float32([0.15, 0.15, 0.15]))

    def build(logits, lengths, written, width):
        strayed = ctc_guidance(logits, lengths, Diagonal(written, width))
        return strayed, tf.gradients(strayed, logits)[0]

    strayed, gradient = run_graph(build, **feed)
    # The first: 0, 0.25, 0.5, 0.75, 1 are within 0.15. The second: 0.25, 0.75, 1, 1, 1.
    np.testing.assert_allclose(strayed, [0.0, (0.0 + 0.3 + 0.35 + 0.15 + 0.0) / 5, 0.0], atol=1e-6)
    np.testing.assert_array_equal(gradient[0], 0.0)


def test_a_gradient_moves_ctc_to_where_the_text_is(run_graph):
    logits = np.zeros([1, 5, 3], np.float32)
    logits[0, :2, 0] = 1.0  # more of the text in the first two steps
    feed = dict(logits=logits, lengths=np.array([5], np.int32), written=np.float32([[0.0, 0.0, 0.0, 0.2, 0.8]]),
                width=np.float32([0.1]))
    gradient = run_graph(lambda logits, lengths, written, width: tf.gradients(
        ctc_guidance(logits, lengths, Diagonal(written, width)), logits)[0], **feed)
    assert gradient[0, 0, BLANK] < 0 < gradient[0, 4, BLANK]  # descent: blank at the start, characters at the end


@pytest.mark.parametrize("step, attention_part, ctc_part", [
    (0, 1.0, 1.0), (GUIDED_STEPS // 4, 0.75, 0.75), (2 * GUIDED_STEPS, 0.0, 0.5)])
def test_guidance_fades(step, attention_part, ctc_part):
    """Attention's with the steps, CTC's only as far as attention does not read."""
    with tf.Graph().as_default(), tf.Session() as session:
        losses, strayed, ctc_losses, ctc_strayed = (
            tf.constant(values) for values in ([np.log(2.0)], [0.25], [3.0], [0.125]))
        losses = tf.cast(losses, tf.float32)
        loss = guiding_loss(TrainConfig(guided_attention=2.0), losses, strayed, ctc_losses, ctc_strayed)
        session.run(tf.train.get_or_create_global_step().initializer)
        session.run(tf.train.get_or_create_global_step().assign(step))
        expected = 2.0 * (attention_part * np.log(2.0) * 0.25 + CTC_GUIDANCE * ctc_part * 0.125)
        assert session.run(loss) == pytest.approx(expected, rel=1e-6)
        assert tf.gradients(loss, losses) == [None]
