"""Aligns texts with the frames of the CTC branch: the most likely alignment, and what else the frames could say.

A frame is an encoder step. A text of n characters takes the states 0 to 2n: state 2t + 1 is its character t, even
states are the blanks around the characters. M is the number of states of the longest text, 2T + 1.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.charset import FIRST_ID, PAD_ID
from aocr.graph.ctc import IMPOSSIBLE


class Spans(NamedTuple):
    """Where the characters of a text are; beyond its end, and for a text that does not fit, without meaning."""

    starts: tf.Tensor  # [N, T] int32, first frame of each character
    ends: tf.Tensor  # [N, T] int32, frame after its last one


def align(log_probabilities: tf.Tensor, lengths: tf.Tensor, ids: tf.Tensor) -> Spans:
    """Finds the most likely alignment of each text with its frames (Viterbi).

    Args:
      log_probabilities: float32 [N, S, K], of the classes in each frame, blank last.
      lengths: int32 [N], frames of each image. ids: int32 [N, T], characters, PAD_ID after the end; T >= 1.
    """
    with tf.name_scope("align"):
        path = _best_path(log_probabilities, lengths, ids)  # [N, S]
        frames = tf.range(tf.shape(path)[1])
        inside = tf.logical_and(tf.equal(path % 2, 1), tf.sequence_mask(lengths, tf.shape(path)[1]))
        count, steps = tf.unstack(tf.shape(ids))
        places = tf.where(inside, path // 2 + steps * tf.range(count)[:, tf.newaxis], tf.fill(tf.shape(path), -1))
        frames = tf.broadcast_to(frames, tf.shape(path))
        starts = tf.math.unsorted_segment_min(frames, places, count * steps)
        ends = tf.math.unsorted_segment_max(frames, places, count * steps) + 1
        return Spans(*(tf.reshape(part, [count, steps]) for part in (starts, ends)))


def _best_path(log_probabilities, lengths, ids):
    """Returns the state of each frame in the most likely alignment: int32 [N, S]; beyond the length the last one."""
    classes, may_skip = _states(ids, tf.shape(log_probabilities)[2] - 1)
    emitted = tf.gather(log_probabilities, classes, axis=2, batch_dims=1)  # [N, S, M]
    emitted = tf.transpose(emitted, [1, 0, 2])  # [S, N, M]
    frames, count = tf.unstack(tf.shape(emitted)[:2])
    first = tf.cast(tf.range(tf.shape(classes)[1]) < 2, tf.float32)
    scores = emitted[0] + (1.0 - first) * IMPOSSIBLE  # [N, M]

    def forward(s, scores, choices):
        over_blank = tf.where(may_skip, _moved(scores, 2), tf.fill(tf.shape(scores), IMPOSSIBLE))
        before = tf.stack([scores, _moved(scores, 1), over_blank], 2)  # [N, M, 3], by states back: 0, 1, 2
        live = tf.broadcast_to((s < lengths)[:, tf.newaxis], tf.shape(scores))
        choice = tf.where(live, tf.argmax(before, 2, output_type=tf.int32), tf.zeros_like(classes))
        scores = tf.where(live, tf.reduce_max(before, 2) + emitted[s], scores)
        return s + 1, scores, choices.write(s, choice)

    choices = tf.TensorArray(tf.int32, frames, element_shape=[None, None]).write(0, tf.zeros_like(classes))
    _, scores, choices = tf.while_loop(lambda s, *_: s < frames, forward, (1, scores, choices))
    choices = choices.stack()  # [S, N, M]
    final = 2 * tf.reduce_sum(tf.cast(tf.not_equal(ids, PAD_ID), tf.int32), 1)  # [N]
    written = tf.maximum(final - 1, 0)
    state = tf.where(tf.gather(scores, written, batch_dims=1) > tf.gather(scores, final, batch_dims=1), written, final)

    def backward(s, state, path):
        return s - 1, state - tf.gather(choices[s], state, batch_dims=1), path.write(s, state)

    path = tf.TensorArray(tf.int32, frames, element_shape=[None])
    *_, path = tf.while_loop(lambda s, *_: s >= 0, backward, (frames - 1, state, path))
    return tf.transpose(path.stack())


def _states(ids, blank):
    """Returns the class of each state, int32 [N, M], and whether it may follow the state two before, bool [N, M]."""
    classes = tf.maximum(ids - FIRST_ID, 0)  # [N, T]
    blanks = tf.fill(tf.shape(classes), blank)
    states = tf.reshape(tf.stack([blanks, classes], 2), [tf.shape(ids)[0], -1])
    states = tf.concat([states, blanks[:, :1]], 1)  # [N, M]
    differs = tf.logical_and(tf.not_equal(states[:, 2:], states[:, :-2]), tf.not_equal(states[:, 2:], blank))
    return states, tf.pad(differs, [[0, 0], [2, 0]])


def _moved(scores, by):
    """Moves scores to later states: float32 [N, M] -> [N, M]."""
    return tf.pad(scores, [[0, 0], [by, 0]], constant_values=IMPOSSIBLE)[:, :-by]


def class_log_posteriors(log_probabilities: tf.Tensor, lengths: tf.Tensor, ids: tf.Tensor, spans: Spans) -> tf.Tensor:
    """Returns the log probability of each character of the charset in each place of a text.

    The frames are divided among the characters of the text, halfway between neighbouring spans. The probability of a
    character in a place is that of all alignments in which the frames of the place read as this character alone.

    Args: as for `align`. spans: of the text. Returns: float32 [N, T, K - 1] <= 0.
    """
    with tf.name_scope("class_log_posteriors"):
        frames = tf.shape(log_probabilities)[1]
        real = tf.not_equal(ids, PAD_ID)
        firsts = tf.where(real[:, 1:], (spans.ends[:, :-1] + spans.starts[:, 1:] + 1) // 2,
                          tf.fill(tf.shape(ids[:, 1:]), frames))  # [N, T - 1], first frame of each place but the first
        firsts = tf.pad(firsts, [[0, 0], [1, 0]])  # [N, T]
        lasts = tf.minimum(tf.pad(firsts[:, 1:], [[0, 0], [0, 1]], constant_values=2 ** 30), lengths[:, tf.newaxis]) - 1
        begins = tf.reduce_any(tf.equal(firsts[:, :, tf.newaxis], tf.range(frames)), 1)  # [N, S]
        read = _single_characters(log_probabilities, begins)  # [N, S, K - 1]
        return tf.minimum(tf.gather(read, tf.clip_by_value(lasts, 0, frames - 1), batch_dims=1), 0.0)


def _single_characters(log_probabilities, begins):
    """Returns the log probability that the frames since the last one in `begins` (bool [N, S]) read as exactly one
    character, for each: float32 [N, S, K] -> [N, S, K - 1].
    """
    frames, count = tf.shape(log_probabilities)[1], tf.shape(log_probabilities)[0]
    by_frame = tf.transpose(log_probabilities, [1, 0, 2])  # [S, N, K]
    characters, blanks = by_frame[:, :, :-1], by_frame[:, :, -1:]
    begins = tf.transpose(begins)  # [S, N]

    def step(s, nothing, inside, after, read):
        """`nothing`: only blanks so far [N, 1]; `inside`: the last frame is the character; `after`: a blank follows."""
        own, blank = characters[s], blanks[s]
        new = begins[s][:, tf.newaxis]
        none = tf.fill(tf.shape(inside), IMPOSSIBLE)
        nothing = tf.where(new, tf.zeros_like(nothing), nothing)
        new = tf.broadcast_to(new, tf.shape(inside))
        inside, after = tf.where(new, none, inside), tf.where(new, none, after)
        after = _log_add(inside, after) + blank
        inside = _log_add(inside, nothing) + own
        nothing += blank
        return s + 1, nothing, inside, after, read.write(s, _log_add(inside, after))

    classes = tf.dimension_value(log_probabilities.shape[2]) - 1
    start = tf.fill([count, classes], IMPOSSIBLE)
    read = tf.TensorArray(tf.float32, frames, element_shape=[None, classes])
    *_, read = tf.while_loop(lambda s, *_: s < frames, step, (0, tf.zeros([count, 1]), start, start, read))
    return tf.transpose(read.stack(), [1, 0, 2])


def _log_add(a, b):
    """Returns log(exp(a) + exp(b))."""
    return tf.maximum(a, b) + tf.nn.softplus(-tf.abs(a - b))
