"""Reads the headers of image files inside a graph, before any memory is spent on pixels.

Tells what the decoders of TensorFlow would show differently from other programs, or refuse without a reason. Consists
of standard operations, since servers have no others.
"""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

HEAD_BYTES = 64  # hold all that is read at fixed positions
EXIF_BYTES = 1 << 16  # the most of EXIF data that a JPEG segment holds
PLAIN, WITH_ALPHA, DEEP, INDEXED = range(4)  # ways to decode a file
AS_PNG = "save the image as PNG"
ANIMATED = 2  # flag of an extended WebP file (RFC 9649, section 2.7)


class Header(NamedTuple):
    """What the header of an image file says."""

    width: tf.Tensor  # [] int64
    height: tf.Tensor  # [] int64
    problem: tf.Tensor  # [] string: why the file is refused; '' if it is not
    way: tf.Tensor  # [] int32: how to decode it
    exif: tf.Tensor  # [] string: from the EXIF data on; '' if there is none
    file: tf.Tensor  # [] string: the file to decode


def read_header(encoded: tf.Tensor, background: tuple[int, int, int]) -> Header:
    """Returns the header of an image file (string []). `background`: RGB, laid behind a transparent GIF.

    Raises: InvalidArgumentError at run time if a JPEG file has no valid header.
    """
    head = _bytes(encoded, HEAD_BYTES)
    magic = tf.stack([tf.reduce_all(tf.equal(head[at:at + len(text)], list(text))) for at, text in (
        (0, b"\x89PNG"), (0, b"\xff\xd8\xff"), (0, b"GIF8"), (0, b"BM"), (8, b"WEBP"))])
    kind = tf.reduce_max(tf.where(magic, tf.range(1, 6), tf.zeros([5], tf.int32)))
    fields = tf.switch_case(kind, [
        lambda: _header(encoded, problem="not a supported image (PNG, JPEG, GIF, BMP or WebP)"),
        lambda: _png(encoded, head), lambda: _jpeg(encoded), lambda: _gif(encoded, head, background),
        lambda: _bmp(encoded, head), lambda: _webp(encoded, head)])
    return Header(*fields)


def _header(file, width=1, height=1, problem="", way=PLAIN, exif=""):
    """Returns a Header as the branches of a conditional must: tensors of equal types."""
    return Header(tf.cast(width, tf.int64), tf.cast(height, tf.int64), tf.convert_to_tensor(problem),
                  tf.cast(way, tf.int32), tf.convert_to_tensor(exif), tf.identity(file))


def _png(encoded, head):
    deep, colours = tf.equal(head[24], 16), head[25]
    # A false alarm, these letters in the compressed pixels, does no harm: the file then has no transparent pixel.
    transparent = tf.logical_and(tf.logical_or(tf.equal(colours, 0), tf.equal(colours, 2)), _holds(encoded, "tRNS"))
    way = tf.where(deep, DEEP, tf.where(transparent, WITH_ALPHA, PLAIN))
    problem = tf.where(tf.logical_and(deep, transparent), "16 bits with a transparent colour; save the image with 8 "
                                                          "bits", "")
    return _header(encoded, _number(head[19:15:-1]), _number(head[23:19:-1]), problem, way, _after(encoded, b"eXIf"))


def _jpeg(encoded):
    shape = tf.io.extract_jpeg_shape(encoded)
    return _header(encoded, shape[1], shape[0], exif=_after(encoded, b"Exif\0\0"))


def _bmp(encoded, head):
    bits, compression = _number(head[28:30]), _number(head[30:34])
    known = tf.logical_and(tf.equal(compression, 0), tf.logical_or(tf.equal(bits, 8), tf.equal(bits, 24)))
    known = tf.logical_and(known, tf.greater_equal(_number(head[14:18]), 40))  # an older header has other fields
    problem = tf.where(known, "", f"a BMP file other than 24 bits or 8 bits uncompressed; {AS_PNG}")
    height = _number(head[22:26])
    return _header(encoded, _number(head[18:22]), tf.minimum(height, (1 << 32) - height),  # negative: top to bottom
                   problem, tf.where(tf.equal(bits, 8), INDEXED, PLAIN))


def _webp(encoded, head):
    kind = head[15]  # "VP8 ", "VP8L" or "VP8X"
    extended, lossless = tf.equal(kind, ord("X")), tf.equal(kind, ord("L"))
    flags = tf.where(extended, head[20], 0)
    packed = _number(head[21:25])
    sizes = tf.stack([
        tf.stack([_number(head[26:28]) % 16384, _number(head[28:30]) % 16384]),
        tf.stack([packed % 16384 + 1, packed // 16384 % 16384 + 1]),
        tf.stack([_number(head[24:27]) + 1, _number(head[27:30]) + 1])])
    size = sizes[tf.where(extended, 2, tf.where(lossless, 1, 0))]
    animated = tf.not_equal(tf.bitwise.bitwise_and(flags, ANIMATED), 0)  # on these, TensorFlow writes beyond its buffer
    return _header(encoded, size[0], size[1], tf.where(animated, "an animated WebP file; save a single frame", ""),
                   exif=tf.cond(extended, lambda: _webp_exif(encoded), lambda: tf.constant("")))


def _webp_exif(encoded):
    """Returns the EXIF data of an extended WebP file: after the length of the chunk and, from some programs, a prefix
    as in JPEG files."""
    chunk = _after(encoded, b"EXIF")
    return tf.strings.regex_replace(_cut(chunk, 4, EXIF_BYTES - 4), r"^Exif\x00\x00", "")


def _gif(encoded, head, background):
    """Reads up to the end of the first image, so that no memory is spent on others."""
    data = _bytes(encoded)
    size = tf.size(data)

    def at(place):
        return data[tf.minimum(place, size - 1)]

    def step(place, start, transparent, inside, _):
        """Moves on to the next block or sub-block.

        Args: place: of it. start: of the image, -1 before it. transparent: index of the transparent colour, -1 without
        one. inside: whether at a sub-block.
        """
        byte = at(place)
        extension, image = tf.equal(byte, 0x21), tf.equal(byte, 0x2c)
        control = tf.reduce_all([extension, tf.equal(at(place + 1), 0xf9), tf.equal(at(place + 3) % 2, 1)])
        blocks = tf.where(image, place + 11 + _table_bytes(at(place + 9)), place + 2)
        return (tf.where(inside, place + 1 + byte, blocks),
                tf.where(tf.logical_and(image, tf.logical_not(inside)), place, start),
                tf.where(tf.logical_and(control, tf.logical_not(inside)), at(place + 6), transparent),
                tf.where(inside, tf.not_equal(byte, 0), tf.logical_or(extension, image)),
                tf.logical_or(extension, tf.logical_or(image, inside)))

    def more(place, start, _, inside, known):
        return tf.reduce_all([place < size, known, tf.logical_or(start < 0, inside)])

    first = 13 + _table_bytes(head[10])
    end, start, transparent, _, _ = tf.while_loop(
        more, step, [first, tf.constant(-1), tf.constant(-1), tf.constant(False), tf.constant(True)],
        parallel_iterations=1)
    width, height = _number(head[6:8]), _number(head[8:10])
    place = _bytes(_cut(encoded, start + 1, 8), 8)  # left, top, width, height
    whole = tf.reduce_all(tf.equal(place, tf.concat([tf.zeros([4], tf.int32), head[6:10]], 0)))
    problem = tf.where(whole, "", f"a GIF file whose first image does not cover the picture; {AS_PNG}")
    own = _table_bytes(at(start + 9)) > 0  # colours of the image, instead of those of the file
    colour = tf.where(transparent < 0, -1, 3 * transparent + tf.where(own, start + 10, 13))
    return _header(_with_colour(encoded, [(0, first), (start, end)], colour, background), width, height, problem)


def _table_bytes(flags):
    """Returns the length of a GIF file's table of colours from the byte that describes it."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _with_colour(encoded, spans, place, colour):
    """Returns spans (start, end) of a GIF file as a file, with another colour at a place unless that is negative."""
    patch = bytes(colour)

    def patched():
        return tf.strings.join([_cut(encoded, 0, place), patch, _cut(encoded, place + 3, tf.strings.length(encoded))])

    file = tf.cond(place < 0, lambda: tf.identity(encoded), patched)
    return tf.strings.join([*(_cut(file, start, end - start) for start, end in spans), b"\x3b"])


def orientation_of(exif: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation, 1 to 8, of data that starts with a TIFF header (string []): int32 []; 1 if there is
    none or the data is broken."""
    return tf.cond(tf.equal(exif, ""), lambda: tf.constant(1), lambda: _orientation(_bytes(exif)))


def _orientation(data):
    data = tf.concat([data[:EXIF_BYTES], tf.zeros([16], tf.int32)], 0)
    small = tf.equal(data[0], ord("I"))  # the smaller byte first

    def numbers(parts, size):
        """Returns the last axis, `size` bytes, as one number each."""
        parts = tf.cast(tf.where(small, parts, tf.reverse(parts, [-1])), tf.int64)
        return tf.reduce_sum(parts * 256 ** np.arange(size, dtype=np.int64), -1)

    most = tf.size(data, out_type=tf.int64)
    start = tf.minimum(numbers(data[4:8], 4), most - 2)
    count = tf.minimum(numbers(data[start:start + 2], 2), (most - start - 2) // 12)
    entries = tf.reshape(data[start + 2:start + 2 + 12 * count], [-1, 12])
    short = tf.equal(numbers(entries[:, 2:4], 2), 3)
    values = tf.where(short, numbers(entries[:, 8:10], 2), numbers(entries[:, 8:12], 4))
    ours = tf.logical_and(tf.equal(numbers(entries[:, :2], 2), 0x0112), tf.logical_and(values > 1, values < 9))
    return tf.cast(tf.reduce_max(tf.concat([[1], tf.where(ours, values, tf.ones_like(values))], 0)), tf.int32)


def palette_of(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the colours of a BMP file of 8 bits: uint8 [256, 3], RGB; black beyond their number."""
    head = _bytes(encoded, HEAD_BYTES)
    count = tf.cast(_number(head[46:50]), tf.int32)
    count = tf.where(tf.logical_and(count > 0, count < 256), count, 256)
    table = _bytes(_cut(encoded, 14 + tf.cast(_number(head[14:18]), tf.int32), 4 * count), 1024)
    return tf.cast(tf.reshape(table, [256, 4])[:, 2::-1], tf.uint8)


def _bytes(encoded, length=None):
    """Returns a string's bytes, or the first `length` of them, padded with 0: int32 [n]."""
    if length is None:
        return tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)
    head = tf.raw_ops.DecodePaddedRaw(input_bytes=encoded, fixed_length=length, out_type=tf.uint8)
    return tf.ensure_shape(tf.cast(head, tf.int32), [length])


def _number(parts):
    """Returns bytes (int32 [n], the smallest first) as a number: int64 []."""
    return tf.reduce_sum(tf.cast(parts, tf.int64) * 256 ** np.arange(parts.shape[0], dtype=np.int64))


def _cut(encoded, start, length):
    """Returns a part of a string, '' beyond its ends."""
    start = tf.clip_by_value(start, 0, tf.strings.length(encoded))
    return tf.strings.substr(encoded, start, tf.maximum(length, 0))


def _holds(encoded, text):
    """Returns whether a string of any bytes contains a text."""
    left = tf.strings.regex_replace(encoded, text, "", replace_global=False)
    return tf.not_equal(tf.strings.length(left), tf.strings.length(encoded))


def _after(encoded, mark):
    """Returns the rest of a string after the first occurrence of a mark; '' without it."""
    parts = tf.raw_ops.StringSplitV2(input=[encoded], sep=mark, maxsplit=1).values
    return tf.concat([parts[1:], [""]], 0)[0]
