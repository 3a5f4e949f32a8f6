"""Converts between text and ids inside the graph, with constants only, so that a frozen graph keeps them."""

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID, GO_ID, PAD_ID, Charset
from aocr.graph.losses import until_eos

END = 0x110000  # follows the last code point of a text
POINTS = END + 1
UNKNOWN = "characters that the charset lacks"  # in the message of an error


def ids_to_text(ids: tf.Tensor, charset: Charset) -> tf.Tensor:
    """Joins the characters before the first EOS: int32 [N, T] -> string [N] (UTF-8); padding and GO add nothing."""
    with tf.name_scope("ids_to_text"):
        table = tf.constant([b""] * FIRST_ID + [character.encode() for character in charset.characters])
        ids = tf.where(until_eos(ids) > 0, ids, tf.fill(tf.shape(ids), EOS_ID))
        return tf.strings.reduce_join(tf.gather(table, ids), axis=1)


def text_to_ids(text: tf.Tensor, charset: Charset) -> tf.Tensor:
    """Returns a label's ids: string [] (UTF-8) -> int32 [length], PAD_ID for a code point where no character begins.

    Of grapheme clusters, the longest one in the charset is taken at each position, and the next position is its end.
    These are the label's own clusters if the charset has them all: whether a cluster ends before a code point depends
    only on that code point and on the cluster so far, so a charset cluster longer than the label's own would itself
    have to end where that one ends.
    """
    with tf.name_scope("text_to_ids"):
        keys, ids_of_keys = _prefixes(charset)
        table, nowhere = tf.constant(keys), len(keys)
        table_ids = tf.constant(np.append(ids_of_keys, PAD_ID).astype(np.int32))
        points = tf.cast(tf.strings.unicode_decode(text, "UTF-8"), tf.int64)  # [n]
        size, longest = tf.shape(points), max(map(len, charset.characters))
        ahead = tf.pad(points, [[0, longest - 1]], constant_values=END)
        prefix = tf.zeros_like(points)  # number of the prefix found at each position
        ids = tf.fill(size, PAD_ID)  # of the longest character found there
        lengths = tf.fill(size, 1)  # its length in code points
        for length in range(1, longest + 1):
            key = prefix * POINTS + ahead[length - 1:][:size[0]]
            place = tf.searchsorted(table, key)
            found = tf.equal(tf.gather(table, tf.minimum(place, nowhere - 1)), key)
            place = tf.where(found, place, tf.fill(size, nowhere))
            prefix = tf.cast(place, tf.int64) + 1
            ends = tf.not_equal(tf.gather(table_ids, place), PAD_ID)
            ids = tf.where(ends, tf.gather(table_ids, place), ids)
            lengths = tf.where(ends, tf.fill(size, length), lengths)
        return tf.gather(ids, _places(lengths)) if longest > 1 else ids


def all_known(ids: tf.Tensor, text: tf.Tensor) -> tf.Tensor:
    """Returns the ids (int32 [length]) of a label (string []) unchanged. In the run, InvalidArgumentError with UNKNOWN
    if one is PAD_ID.
    """
    known = tf.debugging.Assert(tf.reduce_all(tf.not_equal(ids, PAD_ID)), [UNKNOWN, text])
    with tf.control_dependencies([known]):
        return tf.identity(ids)


def _prefixes(charset):
    """Builds a sorted table of all prefixes of the characters, themselves included, numbered from 1 in its order.

    Returns: the table's keys, int64 [P], ascending, each made of a prefix's last code point and the number of the
      prefix before it (0: empty); and the ids of the prefixes that are characters, PAD_ID for the others, list of P.
    """
    prefixes = sorted({character[:length] for character in charset.characters
                       for length in range(1, len(character) + 1)}, key=lambda prefix: (len(prefix), prefix))
    numbers = {prefix: number for number, prefix in enumerate(["", *prefixes])}
    keys = [numbers[prefix[:-1]] * POINTS + ord(prefix[-1]) for prefix in prefixes]
    ids = {character: FIRST_ID + k for k, character in enumerate(charset.characters)}
    return np.array(keys, np.int64), [ids.get(prefix, PAD_ID) for prefix in prefixes]


def _places(lengths):
    """Returns the positions below n reached from 0 by advancing each time by the length there: int32 [n] -> [m]."""
    def step(place, count, places):
        return place + lengths[place], count + 1, places.write(count, place)

    places = tf.TensorArray(tf.int32, size=0, dynamic_size=True, element_shape=[])
    *_, places = tf.while_loop(lambda place, *_: place < tf.size(lengths), step, (0, 0, places))
    return places.stack()


def teaching_sequences(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a label's teacher-forcing sequences: int32 [length] -> (inputs, targets), int32 [length + 1] each.

    inputs: GO and the label; targets: the label and EOS.
    """
    return tf.concat([[GO_ID], ids], 0), tf.concat([ids, [EOS_ID]], 0)
