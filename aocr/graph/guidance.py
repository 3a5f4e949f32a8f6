"""Guidance: where in the image each part of the text should be, and how far attention and CTC stray from there.

Early in training it is the diagonal, over the ink of the image (guided attention of Tachibana et al. 2017, arXiv
1710.08969). As the branches learn, each guides the other: attention follows CTC, CTC follows attention.
"""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.config import TrainConfig

GUIDANCE_WIDTH = 0.15  # width of the diagonal that guides attention, as a share of the text
LEAST_INK = 1e-6
GUIDANCE_CHARACTERS = 1.5  # its width in characters, where CTC has located them
CTC_GUIDANCE = 4.0  # weight of CTC's guidance, in that of attention
GUIDED_STEPS = 1000  # steps within which guided attention fades out


class Diagonal(NamedTuple):
    """Where attention should be: the share of the text that is written at each encoder step."""

    written: tf.Tensor  # [N, S] float32 in [0, 1], rising in reading order
    width: tf.Tensor  # [N] float32 > 0, tolerated distance, as a share of the text


def diagonal(pixels: tf.Tensor, stride: int, right_to_left: bool = False) -> Diagonal:
    """Returns the Diagonal of text spread evenly over the columns with ink.

    Where ink is everywhere, as in most words and lines, it is that of Tachibana et al. 2017 (arXiv 1710.08969); empty
    margins are left out. The ink of a column is the standard deviation of its pixels.

    Args: pixels: float32 [N, H, W, C], 0 in the padding. stride: columns per encoder step. right_to_left: labels begin
      at the right end.
    """
    with tf.name_scope("diagonal"):
        ink = tf.reduce_mean(tf.math.reduce_std(pixels, 1), 2)  # [N, W]
        ink = tf.pad(ink, [[0, 0], [0, -tf.shape(ink)[1] % stride]])
        ink = tf.reduce_sum(tf.reshape(ink, [tf.shape(ink)[0], -1, stride]), 2)  # [N, S]
        ink += LEAST_INK  # a blank image has none
        written = (tf.cumsum(ink, 1) - 0.5 * ink) / tf.reduce_sum(ink, 1, keepdims=True)
        if right_to_left:
            written = 1.0 - written
        return Diagonal(written, tf.fill([tf.shape(pixels)[0]], GUIDANCE_WIDTH))


def following_ctc(even: Diagonal, logits: tf.Tensor, lengths: tf.Tensor, losses: tf.Tensor, counts: tf.Tensor,
         right_to_left: bool = False) -> Diagonal:
    """Moves a Diagonal to where CTC finds the characters, the further the better CTC reads.

    Args:
      logits: float32 [N, S, K] of CTC, the blank last. lengths: int32 [N]. losses: float32 [N] of CTC, nats per
        character. counts: float32 [N], characters of the labels. right_to_left: as in `diagonal`.
    """
    with tf.name_scope("following_ctc"):
        trust = tf.exp(-losses)  # [N], CTC's probability per character
        found = written_by_ctc(logits, lengths, right_to_left)
        found *= (counts / (counts + 1.0))[:, tf.newaxis]  # EOS follows them all
        written = even.written + trust[:, tf.newaxis] * (found - even.written)
        width = even.width + trust * (GUIDANCE_CHARACTERS / (counts + 1.0) - even.width)
        return Diagonal(tf.stop_gradient(written), tf.stop_gradient(tf.minimum(width, even.width)))


def written_by_ctc(logits: tf.Tensor, lengths: tf.Tensor, right_to_left: bool = False) -> tf.Tensor:
    """Returns the share of the text that CTC has written at each encoder step, by the probability of not being blank.

    Args: as of `following_ctc`.
    Returns: float32 [N, S] in [0, 1], rising in reading order.
    """
    inside = tf.sequence_mask(lengths, tf.shape(logits)[1], tf.float32)
    here = (1.0 - tf.nn.softmax(logits)[:, :, -1]) * inside  # [N, S], characters at each step
    share = (tf.cumsum(here, 1) - 0.5 * here) / tf.maximum(tf.reduce_sum(here, 1, keepdims=True), 1e-6)
    return tf.reverse_sequence(share, lengths, seq_axis=1, batch_axis=0) if right_to_left else share


def following_attention(even: Diagonal, attention: tf.Tensor, weights: tf.Tensor, losses: tf.Tensor,
             right_to_left: bool = False) -> Diagonal:
    """Moves a Diagonal to where attention finds the characters, the further the better the decoder reads.

    Args:
      attention: float32 [N, T, S]. weights: float32 [N, T], 1 for the steps that count, of which the last is EOS.
      losses: float32 [N] of the decoder, nats per step. right_to_left: as in `diagonal`.
    """
    with tf.name_scope("following_attention"):
        weights = tf.pad(weights[:, 1:], [[0, 0], [0, 1]])  # without EOS
        here = tf.einsum("nt,nts->ns", weights, attention)
        here /= tf.maximum(tf.reduce_sum(here, 1, keepdims=True), 1e-6)
        found = tf.cumsum(here, 1) - 0.5 * here
        if right_to_left:
            found = 1.0 - found
        trust = tf.exp(-losses)  # [N], the decoder's probability per step
        written = even.written + trust[:, tf.newaxis] * (found - even.written)
        return Diagonal(tf.stop_gradient(written), even.width)


def ctc_guidance(logits: tf.Tensor, lengths: tf.Tensor, where: Diagonal, right_to_left: bool = False) -> tf.Tensor:
    """Returns how far CTC writes each text from a diagonal.

    Free of it, CTC may write whole texts at an end of their images, having learnt them by heart over the encoder's
    states; it does not generalise then.

    Args: as of `following_ctc`.
    Returns: float32 [N] in [0, 1): the mean over the steps of the distance beyond the tolerated one.
    """
    with tf.name_scope("ctc_guidance"):
        inside = tf.sequence_mask(lengths, tf.shape(logits)[1], tf.float32)
        far = tf.abs(written_by_ctc(logits, lengths, right_to_left) - where.written) - where.width[:, tf.newaxis]
        return tf.reduce_sum(tf.nn.relu(far) * inside, 1) / tf.cast(tf.maximum(lengths, 1), tf.float32)


def attention_guidance(attention: tf.Tensor, weights: tf.Tensor, where: Diagonal) -> tf.Tensor:
    """Returns how far each sample's attention is from a diagonal.

    Args:
      attention: float32 [N, T, S]. weights: float32 [N, T], 1 for the steps that count.

    Returns: float32 [N] in [0, 1), the mean over the steps of attention times its distance, which is 0 on the diagonal
      and 1 far from it; 0 for a sample in which no step counts.
    """
    with tf.name_scope("attention_guidance"):
        steps = tf.maximum(tf.reduce_sum(weights, 1), 1.0)[:, tf.newaxis]  # [N, 1]; EOS among them
        due = (tf.cast(tf.range(tf.shape(weights)[1]), tf.float32) + 0.5) / steps  # [N, T]
        far = (due[:, :, tf.newaxis] - where.written[:, tf.newaxis, :]) / where.width[:, tf.newaxis, tf.newaxis]
        distance = tf.reduce_sum(attention * (1.0 - tf.exp(-0.5 * tf.square(far))), 2)  # [N, T]
        return tf.reduce_sum(distance * weights, 1) / steps[:, 0]


def guiding_loss(config: TrainConfig, losses: tf.Tensor, strayed: tf.Tensor, ctc_losses: tf.Tensor,
                 ctc_strayed: tf.Tensor) -> tf.Tensor:
    """Returns the part of the loss that guides attention and CTC; it fades as they learn.

    Attention is guided for GUIDED_STEPS at most, CTC as long as attention can guide it.

    Args:
      losses: float32 [N], nats per step, of the decoder. strayed: float32 [N] of `attention_guidance`.
      ctc_losses: float32 [N], nats per character. ctc_strayed: float32 [N] of `ctc_guidance`.

    Returns: float32 [].
    """
    step = tf.cast(tf.train.get_or_create_global_step(), tf.float32)
    left = tf.maximum(0.0, 1.0 - step / GUIDED_STEPS)
    losses, ctc_losses = tf.stop_gradient(losses), tf.stop_gradient(ctc_losses)
    by_attention = left * tf.minimum(1.0, losses) * strayed
    by_ctc = tf.maximum(left, tf.exp(-losses)) * tf.minimum(1.0, ctc_losses) * ctc_strayed
    return config.guided_attention * tf.reduce_mean(by_attention + CTC_GUIDANCE * by_ctc)
