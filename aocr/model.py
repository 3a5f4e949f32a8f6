"""The model: every stage of the network wired into one graph, with its session and its weights.

Shape letters, here and in `graph/`: N images, H x W pixels (H = 32), C channels, S encoder steps (= ceil(W / 4)),
T decoder steps, V ids of the charset, U units.
"""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import scaled_width
from aocr.graph import losses, text
from aocr.graph.augment import augment, variant_seed
from aocr.graph.cnn import sliding_cnn
from aocr.graph.decoder import AttentionDecoder
from aocr.graph.encoder import bidirectional_encoder
from aocr.graph.preprocess import PreparedImages, at_least_one, prepare_batch, prepare_image

DROPOUT_RATE = 0.5
ADADELTA_RHO, ADADELTA_EPSILON = 0.95, 1e-8  # Zeiler, arXiv 1212.5701

INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME = "input_image_as_bytes", "prediction", "probability"


class TrainStep(NamedTuple):
    """What one training step tells."""

    loss: float
    gradient_norm: float
    step: int  # global, after this step
    epoch: int  # the number of the pass over the data
    numbers: np.ndarray  # the batch's record numbers
    summary: bytes  # for TensorBoard


class Reading(NamedTuple):
    """What the model reads in one image of a dataset."""

    number: int  # of the record
    label: str
    comment: str
    encoded: bytes  # the image file
    width: int  # of the prepared image, in pixels
    text: str
    probability: float
    loss: float  # teacher forced; nats a step
    attention: np.ndarray  # [steps, S] of the characters read and EOS, over the image's own length


class Model:
    """The network in its own tf.Graph and tf.Session. Three ways to build one:

    `Model(config, charset)` reads images that it is given (`predict`, export); with `batches` it reads a dataset
    (`read`); with `training` too it learns from it (`train`).
    """

    def __init__(self, config, charset, *, batches=None, training=None, recipe=None,
                 precision="float32", session_config=None):
        """
        Args:
          config: ModelConfig. charset: Charset.
          batches: function of `prepare`, `to_sequences`, `epochs` and `augment` -> tf.data.Dataset of
            data.pipeline.Batch: data.pipeline.batches with its other arguments bound.
          training: TrainConfig, or None for inference.
          recipe: augmentation.Recipe of the training images, None for none.
          precision: str, number format of the convolutions.
          session_config: tf.ConfigProto.
        """
        self.config, self.charset, self.training, self._recipe = config, charset, training, recipe
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(training.seed if training else 0)
            self._add_inputs(batches)
            self._add_network(tf.as_dtype(precision))
            if not training:
                self._add_prediction()
            if batches:
                self._add_loss()
            if training:
                self._add_train_op()
            self._add_saver()
        self.session = tf.Session(graph=self.graph, config=session_config)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    # ---- the graph, in phases

    def prepare_image(self, encoded):
        """An encoded image (string []) as the network reads it: PreparedImage."""
        return prepare_image(encoded, canvas_width=self.config.canvas_width, channels=self.config.channels)

    def drawn_width(self, width, height):
        """Width in prepared pixels that an image of this size takes."""
        return min(max(scaled_width(width, height), 1), self.config.canvas_width)

    @property
    def decoder_steps(self):
        """The most steps of a greedy decoding: the longest label and EOS."""
        return self.config.max_prediction + 1

    def _add_inputs(self, batches):
        """Sets `images`, and `batch` (from a dataset) or `encoded` (a placeholder of any shape)."""
        self.batch = self.encoded = None
        if batches:
            with tf.name_scope("batches"):
                self._epochs = tf.placeholder(tf.int64, [2], "epochs")
                dataset = batches(prepare=self.prepare_image, to_sequences=self._to_sequences,
                                  epochs=tf.unstack(self._epochs) if self.training else None,
                                  augment=self._augment if self._recipe else None)
                self._iterator = tf.data.make_initializable_iterator(dataset)
                self.batch = self._iterator.get_next()
            self.images = PreparedImages(self.batch.pixels, self.batch.widths)
        else:
            self.encoded = tf.placeholder(tf.string, None, INPUT_NAME)
            self.images = at_least_one(prepare_batch(
                tf.reshape(self.encoded, [-1]), self.prepare_image,
                canvas_width=self.config.canvas_width, channels=self.config.channels))

    def _to_sequences(self, label):
        return text.teaching_sequences(text.text_to_ids(label, self.charset))

    def _augment(self, pixels, epoch, number):
        return augment(pixels, self._recipe, variant_seed(self.training.seed, epoch, number))

    def _add_network(self, dtype):
        """Sets `decoder` and, for training, `moments`. Needs `images`; `dtype` is the convolutions'."""
        features = sliding_cnn(*self.images, is_training=bool(self.training), dtype=dtype)
        self.moments = features.moments
        values = features.values  # [N, S, 512]
        if self.training:
            values = tf.nn.dropout(values, rate=DROPOUT_RATE)
        encoded = bidirectional_encoder(values, features.lengths, units=self.config.encoder_units,
                                        use_gru=self.config.use_gru)
        self.decoder = AttentionDecoder(
            encoded, vocabulary=len(self.charset), layers=self.config.attn_num_layers,
            units=self.config.attn_num_hidden, embedding_size=self.config.target_embedding_size,
            use_gru=self.config.use_gru)

    def _add_prediction(self):
        """Sets `reading` (greedy DecoderOutput), `prediction`, `probability`, shaped as the input. Needs `decoder`."""
        self.reading = self.decoder.decode(self.decoder_steps)
        asked = self.encoded if self.encoded is not None else self.images.widths
        shape, count = tf.shape(asked), tf.size(asked)
        prediction = text.ids_to_text(self.reading.ids, self.charset)  # [N]
        probability = losses.sequence_probability(self.reading.logits, self.reading.ids)  # [N]
        self.prediction = tf.reshape(prediction[:count], shape, name=PREDICTION_NAME)
        self.probability = tf.reshape(probability[:count], shape, name=PROBABILITY_NAME)

    def _add_loss(self):
        """Sets `sample_losses` [N] and `loss`, both teacher forced. Needs `decoder` and `batch`."""
        taught = self.decoder.decode(tf.shape(self.batch.inputs)[1], teacher=self.batch.inputs)
        self.sample_losses = losses.sequence_loss(taught.logits, self.batch.targets, self.batch.weights)
        self.loss = tf.reduce_mean(self.sample_losses)

    def _add_train_op(self):
        """Sets `global_step`, `train_op` (which gives the step after it) and `summary`. Needs `loss`."""
        self.global_step = tf.train.get_or_create_global_step()
        with tf.variable_scope("training"):
            self._learning_rate = tf.placeholder_with_default(
                tf.constant(self.training.initial_learning_rate), [], "learning_rate")
            optimizer = tf.train.AdadeltaOptimizer(self._learning_rate, ADADELTA_RHO, ADADELTA_EPSILON)
            gradients, variables = zip(*optimizer.compute_gradients(self.loss))
            self.gradient_norm = tf.global_norm(gradients, name="total_gradient_norm")
            if self.training.gradient_clipping:
                gradients, _ = tf.clip_by_global_norm(gradients, self.training.max_gradient_norm, self.gradient_norm)
            apply = optimizer.apply_gradients(zip(gradients, variables), global_step=self.global_step)
            with tf.control_dependencies([apply]):
                self.train_op = self.global_step.read_value()
        tf.summary.scalar("loss", self.loss)
        tf.summary.scalar("total_gradient_norm", self.gradient_norm)
        tf.summary.scalar("learning_rate", self._learning_rate)
        self.summary = tf.summary.merge_all()

    def _add_saver(self):
        """Sets the saver of all variables, and what assigns batch norm statistics."""
        self._saver = tf.train.Saver(max_to_keep=5, save_relative_paths=True)
        self._initialize = tf.global_variables_initializer()
        self._statistics = [tf.placeholder(tf.float32, variable.shape) for moments in self.moments
                            for variable in moments[2:]]
        self._assign_statistics = [variable.assign(value) for variable, value in zip(
            [variable for moments in self.moments for variable in moments[2:]], self._statistics)]

    # ---- weights

    def initialize(self):
        """Fresh weights."""
        self.session.run(self._initialize)

    def restore(self, checkpoint):
        """Weights from a checkpoint (path without suffix)."""
        with self.graph.as_default():
            self._saver.restore(self.session, checkpoint)

    def save(self, prefix):
        """Writes the checkpoint `prefix`-STEP, complete at once, and drops the oldest beyond the last five."""
        with self.graph.as_default():
            return self._saver.save(self.session, prefix, global_step=self.global_step)

    def estimate_statistics(self, batches):
        """Sets the batch norm layers' population statistics from training batches, with the weights as they are.

        During the first hundreds of steps weights change faster than a moving average can follow, so none is kept:
        the statistics are taken anew before each checkpoint.

        Args: batches: iterable of (pixels [N, H, W, C], widths [N]), at least one.
        """
        moments = [(m.mean, m.variance) for m in self.moments]
        seen = [self.session.run(moments, {self.images.pixels: pixels, self.images.widths: widths})
                for pixels, widths in batches]
        sizes = np.array([np.sum(widths) for _, widths in batches], np.float64)
        values = []
        for layer in zip(*seen):
            means, variances = (np.array(part, np.float64) for part in zip(*layer))  # [batches, C]
            mean = np.average(means, axis=0, weights=sizes)
            # The law of total variance: what varies within the batches, and between them.
            variance = np.average(variances + np.square(means - mean), axis=0, weights=sizes)
            values += [mean, variance]
        self.session.run(self._assign_statistics, dict(zip(self._statistics, values)))

    def step(self):
        """The global step: how many training steps made these weights."""
        return int(self.session.run(self.global_step))

    # ---- use

    def event_writer(self, directory):
        """A writer of TensorBoard events, to be used as a context."""
        with self.graph.as_default():
            return tf.summary.FileWriter(directory, self.graph)

    def start(self, first_epoch=0, epochs=1):
        """Goes to the start of the dataset. In training, passes have numbers, which their orders follow from."""
        self.session.run(self._iterator.initializer, {self._epochs: [first_epoch, first_epoch + epochs]})

    def train(self, first_epoch=0, epochs=1, learning_rate=None):
        """Trains through the dataset: yields a TrainStep and the batch's (pixels, widths) after each step.

        `first_epoch`, `epochs`: ints as in `start`. `learning_rate`: function of the global step before a training
        step; None: always the initial one.
        """
        self.start(first_epoch, epochs)
        # The same every time, the summary among it: TensorFlow takes a second to get ready for each other choice.
        fetches = dict(step=self.train_op, loss=self.loss, gradient_norm=self.gradient_norm, summary=self.summary,
                       epoch=self.batch.epoch, numbers=self.batch.numbers, images=tuple(self.images))
        step = self.step()
        while True:
            try:
                got = self.session.run(fetches, {self._learning_rate: learning_rate(step)} if learning_rate else {})
            except tf.errors.OutOfRangeError:
                return
            step = int(got["step"])
            yield TrainStep(float(got["loss"]), float(got["gradient_norm"]), step, int(got["epoch"]), got["numbers"],
                            got["summary"]), got["images"]

    def read(self):
        """Reads the dataset: yields a Reading for each sample, in the order of the batches."""
        self.start()
        fetches = dict(batch=self.batch._replace(pixels=()), text=self.prediction, probability=self.probability,
                       losses=self.sample_losses, attention=self.reading.attention, ids=self.reading.ids)
        while True:
            try:
                got = self.session.run(fetches)
            except tf.errors.OutOfRangeError:
                return
            yield from self._readings(got)

    def _readings(self, got):
        batch = got["batch"]
        for k, number in enumerate(batch.numbers):
            read = got["text"][k].decode()
            steps, length = min(len(read) + 1, got["ids"].shape[1]), -(-int(batch.widths[k]) // 4)
            comment = batch.comments[k].decode("utf-8", "replace")  # a path may be no text
            yield Reading(int(number), batch.labels[k].decode(), comment, batch.encoded[k], int(batch.widths[k]), read,
                          float(got["probability"][k]), float(got["losses"][k]), got["attention"][k, :steps, :length])

    def predict(self, encoded):
        """Reads images: a list of encoded image files -> a list of (text, probability).

        Raises tf.errors.InvalidArgumentError if one of them cannot be decoded.
        """
        texts, probabilities = self.session.run([self.prediction, self.probability], {self.encoded: list(encoded)})
        return [(read.decode(), float(probability)) for read, probability in zip(texts, probabilities)]
