"""The input pipeline from a dataset to batches: parallel decoding, sorting by width, padding, prefetching."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.records import numbered_records, parse_example
from aocr.data.shard import Shard

if TYPE_CHECKING:
    from aocr.data.scanning import DatasetStatistics

SHUFFLE_RECORDS = 4096  # size of the shuffle buffer, in encoded images
WINDOW_BYTES = 128 << 20  # maximum memory of the decoded images that are sorted by width together
WINDOW_BATCHES = 40  # maximum number of batches sorted together
MOST_ROWS = 4  # maximum number of images in a batch of narrow ones, in batch sizes

plain = tf.autograph.experimental.do_not_convert  # nothing here needs AutoGraph, which takes seconds


class Batch(NamedTuple):
    """Samples of similar width: images padded with 0 to the widest, sequences with 0 to the longest label plus EOS."""

    pixels: tf.Tensor  # [N, H, W, C] float32
    widths: tf.Tensor  # [N] int32
    inputs: tf.Tensor  # [N, T] int32: GO and label
    targets: tf.Tensor  # [N, T] int32: label and EOS
    weights: tf.Tensor  # [N, T] float32: 1 for targets, 0 for padding
    numbers: tf.Tensor  # [N] int64: record numbers in the dataset, from 0
    labels: tf.Tensor  # [N] string, UTF-8
    comments: tf.Tensor  # [N] string, UTF-8
    encoded: tf.Tensor  # [N] string, the image files; "" in shuffled passes, to save memory
    epoch: tf.Tensor  # [] int64: shuffle seed of the pass; 0 for a pass in order
    index: tf.Tensor  # [] int64: batch number in its pass, from 0


class Sample(NamedTuple):
    """One sample on its way to a Batch; in a window, each field holds those of all samples."""

    columns: tf.Tensor  # [w, H, C] float32: the prepared image, its ragged axis first
    inputs: tf.Tensor  # [t] int32
    targets: tf.Tensor  # [t] int32
    number: tf.Tensor  # the rest as in Batch
    label: tf.Tensor
    comment: tf.Tensor
    encoded: tf.Tensor


class Source(NamedTuple):
    """A dataset, and how it is cut into batches."""

    scan: "DatasetStatistics"  # of the dataset or of a split of it; its unreadable records are skipped
    batch_size: int  # samples per batch at the mean width; see `area_spans` for other widths
    shard: Shard = Shard()
    cache: bool = False  # whether prepared images stay in memory from the first pass on

    def batches(self, *, image_bytes: int, prepare: Callable[[tf.Tensor], tuple],
                to_sequences: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
                epochs: tuple[tf.Tensor, tf.Tensor] | None = None, first_batch: tf.Tensor | int = 0,
                augment: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        """Returns the batches of one or several passes over the dataset; the last batch of a pass may be smaller.

        Args:
          image_bytes: memory of the largest prepared image.
          prepare: encoded bytes (string []) -> (pixels [H, w, C] float32, width, ...).
          to_sequences: a label (string []) -> (inputs, targets), int32 [t] each.
          epochs: a range (first, end), int64 [] each: one pass per number, which seeds the order of samples and
            batches. None: one pass; windows (at most WINDOW_BATCHES batches) in dataset order, sorted by width within a
            window.
          first_batch: int64 [], number of batches that the first pass skips, to resume it.
          augment: prepared image ([H, w, C] float32), epoch and record number (int64 []) -> image of the same shape.
            Applied after the cache, so each pass has its own variants. None: no augmentation.

        Returns: a dataset of Batch.
        """
        made = _Batches(self, image_bytes, prepare, to_sequences, epochs, first_batch, augment)
        passes = tf.data.Dataset.range(*(epochs or (1,)))
        # A window is prepared while the batches of the previous one are used, across passes too.
        result = passes.flat_map(made.windows).prefetch(1).flat_map(made.cut).prefetch(2)
        options = tf.data.Options()
        options.experimental_warm_start = True  # starts on the first window while the graph is still prepared
        options.autotune.enabled = False  # seen to stall for 50 s after epochs of a minute or more
        return result.with_options(options)


class _Batches:
    """The functions that tf.data maps over samples and windows, with their shared state."""

    def __init__(self, source, image_bytes, prepare, to_sequences, epochs, first_batch, augment):
        """Arguments as for Source.batches."""
        self._scan, self._shard, self._batch_size = source.scan, source.shard, source.batch_size
        self._prepare, self._to_sequences, self._augment = prepare, to_sequences, augment
        self._window_batches = max(1, min(WINDOW_BATCHES, WINDOW_BYTES // (image_bytes * source.batch_size)))
        self._shuffled, self._first_epoch = epochs is not None, epochs[0] if epochs else 0
        self._first_batch = tf.cast(first_batch, tf.int64)
        self._kept = self._prepared(self._usable_records()).cache() if source.cache else None

    @plain
    def windows(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns the samples of a pass in windows, numbered from 0, which `cut` sorts by width."""
        skipped = self._in_first_pass(epoch, self._first_batch // self._window_batches)  # windows before that batch
        window = self._batch_size * self._window_batches
        if self._kept is not None:
            samples = self._shuffle(self._kept, epoch).skip(skipped * window)
        else:
            records = self._usable_records(epoch if self._shuffled else None)
            samples = self._prepared(self._shuffle(records, epoch).skip(skipped * window))
        if self._augment:
            samples = samples.map(plain(lambda sample: self._vary(epoch, sample)),
                                  num_parallel_calls=tf.data.AUTOTUNE)
        return samples.ragged_batch(window).enumerate(skipped).map(
            plain(lambda number, samples: (epoch, number, samples)))

    @plain
    def cut(self, epoch: tf.Tensor, number: tf.Tensor, samples: Sample) -> tf.data.Dataset:
        """Sorts a window by width and cuts it into batches."""
        widths = samples.columns.row_lengths()
        order = tf.argsort(widths, stable=True)
        spans = tf.data.Dataset.from_tensor_slices(area_spans(tf.gather(widths, order), self._batch_size))
        if self._shuffled:
            spans = spans.shuffle(WINDOW_BATCHES, seed=epoch)
        before = number * self._window_batches  # batches in earlier windows
        left_out = self._in_first_pass(epoch, tf.maximum(self._first_batch - before, 0))
        return spans.enumerate(before).skip(left_out).map(plain(lambda index, span: _to_batch(
            epoch, index, Sample(*(tf.gather(part, order[span[0]:span[1]]) for part in samples)))))

    def _in_first_pass(self, epoch, value):
        """Returns `value` (int64 []) in the first pass, 0 in later ones."""
        return tf.where(tf.equal(epoch, self._first_epoch), value, 0)

    def _shuffle(self, samples, epoch):
        return samples.shuffle(SHUFFLE_RECORDS, seed=epoch) if self._shuffled else samples

    def _usable_records(self, seed=None):
        """Returns the readable records of the split and shard; a seed shuffles the files."""
        scan, shard = self._scan, self._shard
        records = numbered_records(scan, seed)
        if scan.unreadable:
            left_out = tf.constant(np.array(sorted(scan.unreadable), np.int64))
            records = records.filter(plain(lambda number, _: tf.reduce_all(tf.not_equal(number, left_out))))
        if scan.selection:
            records = records.filter(plain(lambda number, _: scan.selection.keeps(number)))
        return records.shard(shard.count, shard.number) if shard.count > 1 else records

    def _prepared(self, records):
        return records.map(self._to_sample, num_parallel_calls=tf.data.AUTOTUNE)

    @plain
    def _to_sample(self, number, serialized):
        record = parse_example(serialized)
        inputs, targets = self._to_sequences(record["label"])
        return Sample(tf.transpose(self._prepare(record["image"])[0], [1, 0, 2]), inputs, targets, number,
                      record["label"], record["comment"], "" if self._shuffled else record["image"])

    def _vary(self, epoch, sample):
        """Augments a sample's image, transposed to [H, w, C] and back."""
        pixels = self._augment(tf.transpose(sample.columns, [1, 0, 2]), epoch, sample.number)
        return sample._replace(columns=tf.transpose(pixels, [1, 0, 2]))


def area_spans(widths: tf.Tensor, batch_size: int) -> tf.Tensor:
    """Returns where to cut samples sorted by width, so that batches have about equal areas instead of equal counts.

    The number of batches is ceil(n / batch_size), the target area that of `batch_size` samples of the mean width. If
    all widths are equal, so are the counts, except for the last batch. Widths are clipped below to mean / MOST_ROWS,
    which limits a batch to MOST_ROWS * batch_size samples, and above to the target area.

    Args: widths: int64 [n], n >= 1, ascending.
    Returns: int64 [batches, 2]: start and end (exclusive) of each batch; no batch is empty.
    """
    with tf.name_scope("area_spans"):
        size = tf.size(widths, out_type=tf.int64)
        batches = (size + batch_size - 1) // batch_size
        # Integers in units of 1 / (MOST_ROWS * size) pixel, hence exact; `mean` is the mean width.
        mean = MOST_ROWS * tf.reduce_sum(widths)
        costs = tf.clip_by_value(MOST_ROWS * size * widths, mean // MOST_ROWS, mean * batch_size)
        before = tf.cumsum(costs, exclusive=True)  # cost of the preceding samples
        numbers = tf.range(batches)
        starts = tf.searchsorted(before * size, numbers * batch_size * tf.reduce_sum(costs), out_type=tf.int64)
        # At least one sample per batch: batch k starts at sample k or later, with enough samples left for the rest.
        pushed = tf.where(numbers[:, tf.newaxis] >= numbers, tf.broadcast_to(starts - numbers, [batches, batches]),
                          tf.fill([batches, batches], tf.constant(0, tf.int64)))
        starts = tf.minimum(tf.reduce_max(pushed, 1) + numbers, size - batches + numbers)
        return tf.stack([starts, tf.concat([starts[1:], [size]], 0)], 1)


def _to_batch(epoch, index, samples):
    """Pads the columns, inputs and targets of samples to a Batch."""
    padded = samples.columns.to_tensor()  # [N, W, H, C]
    return Batch(
        pixels=tf.transpose(padded, [0, 2, 1, 3]), widths=tf.cast(samples.columns.row_lengths(), tf.int32),
        inputs=samples.inputs.to_tensor(), targets=samples.targets.to_tensor(),
        weights=tf.sequence_mask(samples.targets.row_lengths(), dtype=tf.float32),
        numbers=samples.number, labels=samples.label, comments=samples.comment, encoded=samples.encoded, epoch=epoch,
        index=index)
