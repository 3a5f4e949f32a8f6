"""The inputs of a graph: encoded images that a caller feeds, or the batches of a dataset."""

import tensorflow.compat.v1 as tf

from aocr.augment.ops import augment, variant_seed
from aocr.augment.recipes import Recipe
from aocr.config import IMAGE_HEIGHT
from aocr.data.pipeline import Batch, Source
from aocr.graph.preprocess import PreparedImages, at_least_one, prepare_batch
from aocr.graph.text import all_known, teaching_sequences, text_to_ids
from aocr.network import AnyNetwork

INPUT_NAME = "input_image_as_bytes"
PIXELS_NAME, WIDTHS_NAME = "prepared_pixels", "prepared_widths"
LAST_EPOCH = 1 << 62


class EncodedImages:
    """Encoded image files, in a placeholder of any shape. Instead of it, the prepared images may be fed.

    `prepared`: the images, N may be 0; `images`: what the network reads, at least one. `count`: N; `shape`: of the
    placeholder.
    """

    batch: Batch | None = None

    def __init__(self, network: AnyNetwork):
        self.encoded = tf.placeholder(tf.string, None, INPUT_NAME)
        with tf.device("/cpu:0"):  # a GPU would be slow on the many small operations on headers
            images = prepare_batch(tf.reshape(self.encoded, [-1]), network.prepare_image,
                                   canvas_width=network.config.canvas_width, channels=network.config.channels)
        size = [None, IMAGE_HEIGHT, None, network.config.channels]
        self.prepared = PreparedImages(tf.placeholder_with_default(images.pixels, size, PIXELS_NAME),
                                       tf.placeholder_with_default(images.widths, [None], WIDTHS_NAME))
        self.images = at_least_one(self.prepared)
        self.count = tf.size(self.prepared.widths)
        self.shape = tf.shape(self.encoded)


class Examples:
    """Batches of a dataset's samples: data.pipeline.Batch."""

    encoded: tf.Tensor | None = None

    def __init__(self, network: AnyNetwork, source: Source, *, shuffled: bool = False, recipe: Recipe | None = None,
                 seed: int = 0):
        """
        Args:
          shuffled: epochs are numbered, and the number determines the order; for training, so characters of a label
            that the charset lacks are an error (graph.text.UNKNOWN).
          recipe: of the image variants, None for the images as they are. seed: of the variants.
        """
        def to_sequences(label):
            ids = text_to_ids(label, network.charset)
            return teaching_sequences(all_known(ids, label) if shuffled else ids)

        def vary(pixels, epoch, number):
            return augment(pixels, recipe, variant_seed(seed, epoch, number))

        with tf.name_scope("batches"):
            self._span = tf.placeholder(tf.int64, [3], "span")
            first, end, first_batch = tf.unstack(self._span)
            dataset = source.batches(image_bytes=network.config.image_bytes, prepare=network.prepare_image,
                                     to_sequences=to_sequences, epochs=(first, end) if shuffled else None,
                                     first_batch=first_batch, augment=vary if recipe else None)
            self._iterator = tf.data.make_initializable_iterator(dataset)
            self.batch = self._iterator.get_next()
        self.images = PreparedImages(self.batch.pixels, self.batch.widths)
        self.shape = tf.shape(self.batch.widths)

    @property
    def count(self) -> tf.Tensor:
        """Number of images in the batch: int32 []."""
        return tf.size(self.batch.widths)

    def start(self, session: tf.Session, first_epoch: int = 0, epochs: int | None = 1, first_batch: int = 0) -> None:
        """Restarts the dataset.

        `epochs`: None for no end. `first_batch`: number of batches to skip in the first epoch.
        """
        end = LAST_EPOCH if epochs is None else first_epoch + epochs
        session.run(self._iterator.initializer, {self._span: [first_epoch, end, first_batch]})
