"""Between text and ids, inside the graph: constants only, so that a frozen graph keeps them."""

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID
from aocr.graph.losses import until_eos


def ids_to_text(ids, charset):
    """The characters before the first EOS: int32 [N, T] -> string [N] (UTF-8); padding and GO give nothing."""
    with tf.name_scope("ids_to_text"):
        table = tf.constant([b""] * FIRST_ID + [character.encode() for character in charset.characters])
        ids = tf.where(until_eos(ids) > 0, ids, tf.fill(tf.shape(ids), EOS_ID))
        return tf.strings.reduce_join(tf.gather(table, ids), axis=1)


def text_to_ids(text, charset):
    """Ids of a label's characters: string [] (UTF-8) -> int32 [length], PAD_ID for what the charset lacks."""
    with tf.name_scope("text_to_ids"):
        points = np.array([ord(character) for character in charset.characters], np.int32)
        order = np.argsort(points)
        found = tf.strings.unicode_decode(text, "UTF-8")  # [length]
        place = tf.minimum(tf.searchsorted(tf.constant(points[order]), found), len(points) - 1)
        ids = tf.gather(tf.constant((order + FIRST_ID).astype(np.int32)), place)
        return tf.where(tf.equal(tf.gather(tf.constant(points[order]), place), found), ids,
                        tf.fill(tf.shape(ids), PAD_ID))


def teaching_sequences(ids):
    """What teacher forcing needs of a label: int32 [length] -> (inputs, targets), int32 [length + 1] each.

    inputs: GO and the label; targets: the label and EOS.
    """
    return tf.concat([[GO_ID], ids], 0), tf.concat([ids, [EOS_ID]], 0)
