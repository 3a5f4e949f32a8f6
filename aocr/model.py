"""The model: every stage of the network wired into one graph, with its session and its weights.

Shape letters, here and in `graph/`: N images, H x W pixels (H = 32), C channels, S encoder steps (W / the network's
stride, rounded up), T decoder steps, V ids of the charset, K classes of CTC, U units.
"""

import contextlib
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID, FIRST_ID
from aocr.config import ATTENTION, Decoding, scaled_width
from aocr.graph import ctc, layers, losses, text
from aocr.graph.augment import augment, variant_seed
from aocr.graph.cnn import sliding_cnn
from aocr.graph.decoder import AttentionDecoder
from aocr.graph.decoding import transcribe
from aocr.graph.encoder import bidirectional_encoder
from aocr.graph.learning import Learning, guiding_loss
from aocr.graph.optimizer import WeightAverage
from aocr.graph.placement import Placement
from aocr.graph.preprocess import PreparedImages, at_least_one, prepare_batch, prepare_image
from aocr.graph.towers import shares, total_moments

INPUT_NAME, PREDICTION_NAME, PROBABILITY_NAME = "input_image_as_bytes", "prediction", "probability"
LAST_EPOCH = 1 << 62
STATE_VARIABLE = "training/state"  # what a run notes of itself, saved at one with the weights


def averaged_name(name):
    """The name in a checkpoint of the average of a weight of this name."""
    return f"training/{name}/{WeightAverage.SUFFIX}"


class TrainStep(NamedTuple):
    """What one training step tells."""

    loss: float  # what the gradients are of
    attention_loss: float  # teacher forced; nats a step
    ctc_loss: float  # nats a character; 0 without CTC
    unfitting: int  # labels of the batch that have more characters than CTC has steps
    gradient_norm: float
    learning_rate: float
    step: int  # global, after this step
    epoch: int  # the number of the pass over the data
    index: int  # the batch's number in it, from 0
    numbers: np.ndarray  # the batch's record numbers
    padding: float  # share of the batch's pixels


class Branches(NamedTuple):
    """The two readers of one memory."""

    decoder: AttentionDecoder
    ctc_logits: tf.Tensor  # [N, S, K] float32; None without CTC
    lengths: tf.Tensor  # [N] int32, steps of each image


class Candidate(NamedTuple):
    """A text that may be what an image shows, and the log probabilities that the two branches give it."""

    text: str
    by_attention: float
    by_ctc: float


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
    candidates: tuple  # of Candidate, in joint decoding: CTC's likeliest texts, then the attention decoder's own


class Model:
    """The network in its own tf.Graph and tf.Session. Three ways to build one:

    `Model(config, charset)` reads images that it is given (`predict`, export); with `batches` it reads a dataset
    (`read`); with `training` too it learns from it (`train`).
    """

    def __init__(self, config, charset, *, decoding=None, batches=None, training=None, recipe=None,
                 precision="float32", session_config=None, placement=None):
        """
        Args:
          config: ModelConfig. charset: Charset. decoding: Decoding, how it reads; None: by attention.
          batches: function of `prepare`, `to_sequences`, `epochs` and `augment` -> tf.data.Dataset of
            data.pipeline.Batch: data.pipeline.batches with its other arguments bound.
          training: TrainConfig, or None for inference.
          recipe: augmentation.Recipe of the training images, None for none.
          precision: str, number format of the convolutions.
          session_config: tf.ConfigProto.
          placement: Placement of a training graph; None: wherever TensorFlow likes.
        """
        self.config, self.charset, self.training, self._recipe = config, charset, training, recipe
        self._placement = placement or Placement()
        self.graph = tf.Graph()
        with self.graph.as_default(), tf.device(self._placement.outer):  # which None leaves to TensorFlow
            tf.set_random_seed(training.seed if training else 0)
            self._add_inputs(batches)
            self._add_network(tf.as_dtype(precision))
            if not training:
                self._add_prediction(decoding or Decoding(ATTENTION))
            if batches:
                self._add_loss()
            if training:
                self._add_train_op()
            self._add_saver()
        self._session_config = session_config
        self.connect()

    def connect(self):
        """Opens a session; a cluster's weights are where they are, others start anew."""
        self.session = tf.Session(self._placement.target, graph=self.graph, config=self._session_config)

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
        """Sets `images`, and `batch` (from a dataset) with the towers' `shares` of it, or `encoded` (a placeholder of
        any shape).
        """
        self.batch = self.shares = self.encoded = None
        if batches:
            with tf.name_scope("batches"):
                self._span = tf.placeholder(tf.int64, [3], "span")
                first, end, first_batch = tf.unstack(self._span)
                dataset = batches(prepare=self.prepare_image, to_sequences=self._to_sequences,
                                  epochs=(first, end) if self.training else None, first_batch=first_batch,
                                  augment=self._augment if self._recipe else None)
                self._iterator = tf.data.make_initializable_iterator(dataset)
                self.batch = self._iterator.get_next()
            self.images = PreparedImages(self.batch.pixels, self.batch.widths)
            self.shares = shares(self.images, self.batch, len(self._placement.towers))
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
        """Sets `branches`, one a tower, and `moments` (of the batch norm layers that are trained). `dtype` is the
        convolutions'.
        """
        training, start = self.training, layers.Start()
        if training:
            start = layers.Start(he=training.initializer == "he", forget_bias=training.forget_bias)
        learning = bool(training) and "cnn" not in training.frozen
        images = [share.images for share in self.shares] if self.shares else [self.images]
        self.branches, moments = [], []
        for k, own in enumerate(images):
            reuse = True if k else None  # the towers' variables are the first one's
            with tf.variable_scope(tf.get_variable_scope(), reuse=reuse), self._placement.tower(k):
                features = sliding_cnn(*own, self.config.network, is_training=learning, dtype=dtype, start=start)
                moments.append(features.moments)
                self.branches.append(self._read_features(features, k, start))
        self.moments = []
        if learning:
            self.moments = total_moments(moments, tf.stack([share.columns for share in self.shares]))

    def _read_features(self, features, tower, start):
        """The Branches over a tower's cnn.Features."""
        config, values, training = self.config, features.values, self.training  # [N, S, F]
        if training:
            # Stateless, so that a run that is started again drops what it would have dropped.
            seed = variant_seed(training.seed + tower, self.batch.epoch, self.batch.index)
            values = tf.compat.v2.nn.experimental.stateless_dropout(values, training.dropout, seed)
        encoded = bidirectional_encoder(values, features.lengths, units=config.encoder_units,
                                        use_gru=config.use_gru, start=start)
        decoder = AttentionDecoder(
            encoded, vocabulary=len(self.charset), layers=config.attn_num_layers, units=config.attn_num_hidden,
            attention_units=config.attention_units, embedding_size=config.target_embedding_size,
            use_gru=config.use_gru, start=start)
        logits = None
        if config.ctc:
            logits = ctc.ctc_logits(encoded, len(self.charset.characters), config.right_to_left)
        return Branches(decoder, logits, encoded.lengths)

    def _add_prediction(self, decoding):
        """Sets `reading` (decoding.Transcription), `prediction`, `probability`, shaped as the input. Needs `branches`.
        """
        self.reading = transcribe(decoding, *self.branches[0], self.decoder_steps)
        asked = self.encoded if self.encoded is not None else self.images.widths
        shape, count = tf.shape(asked), tf.size(asked)
        prediction = text.ids_to_text(self.reading.ids, self.charset)  # [N]
        probability = self.reading.probability  # [N]
        self.prediction = tf.reshape(prediction[:count], shape, name=PREDICTION_NAME)
        self.probability = tf.reshape(probability[:count], shape, name=PROBABILITY_NAME)

    def _add_loss(self):
        """Sets `sample_losses` [N], the attention decoder's, teacher forced; `loss`, what is trained; and what that is
        made of: `attention_loss`, `ctc_loss`, `unfitting`. Needs `branches` and `shares`.
        """
        found = []
        for k, (share, branches) in enumerate(zip(self.shares, self.branches)):
            with self._placement.tower(k):
                found.append(self._losses_of(share, branches))
        by_attention, by_ctc, fitting, strayed = (
            # What is blank does not count.
            tf.concat([own[:share.size] for own, share in zip(parts, self.shares)], 0) if len(found) > 1 else parts[0]
            for parts in zip(*found))
        self.sample_losses = by_attention
        self.loss = self.attention_loss = tf.reduce_mean(by_attention)
        self.ctc_loss = tf.reduce_sum(by_ctc) / tf.maximum(tf.reduce_sum(fitting), 1.0)
        self.unfitting = tf.reduce_sum(1.0 - fitting)
        if self.training:
            weight = self.training.ctc_weight
            self.loss = (1.0 - weight) * self.attention_loss + weight * self.ctc_loss
            if self.training.guided_attention:
                self.loss += guiding_loss(self.training, by_attention, strayed)

    def _losses_of(self, share, branches):
        """A share's losses, [N] float32 each: the attention decoder's; that of CTC a character, 0 where the label does
        not fit; whether it fits; how far the attention strays from where it should be.
        """
        smoothing = self.training.label_smoothing if self.training else 0.0
        decoder, logits, lengths = branches
        taught = decoder.decode(tf.shape(share.inputs)[1], teacher=share.inputs)
        by_attention = losses.sequence_loss(taught.logits, share.targets, share.weights, smoothing)
        where = losses.diagonal(share.images.pixels, self.config.network.stride, self.config.right_to_left)
        by_ctc, fitting = tf.zeros_like(by_attention), tf.ones_like(by_attention)
        if self.training and self.config.ctc:
            characters = tf.where(share.targets >= FIRST_ID, share.targets, tf.zeros_like(share.targets))
            count = tf.reduce_sum(share.weights, 1) - 1.0  # without EOS
            fitting = tf.cast(ctc.fits(characters, lengths), tf.float32)
            by_ctc = -ctc.log_probability(logits, lengths, characters) / tf.maximum(count, 1.0)
            where = losses.bent(where, logits, lengths, by_ctc, count, self.config.right_to_left)
        return by_attention, by_ctc * fitting, fitting, losses.guidance(taught.attention, share.weights, where)

    def _add_train_op(self):
        """Sets `learning` and the variable of the run's state. Needs `loss`."""
        self.learning = Learning(self.loss, self.training, towers=len(self.shares), meetings=self._placement.meetings)
        self._state = tf.get_variable(STATE_VARIABLE, [], tf.string, tf.constant_initializer(""), trainable=False,
                                      use_resource=True)
        with tf.name_scope("training"):
            self._given_state = tf.placeholder(tf.string, [], "given_state")
            self._assign_state = self._state.assign(self._given_state)

    def _add_saver(self):
        """Sets what saves all variables in training, and what assigns batch norm statistics."""
        self._variables = {variable.op.name: variable for variable in tf.global_variables()}
        if self.training:
            self._saver, self._best_saver = (
                tf.train.Saver(self._variables, max_to_keep=count, save_relative_paths=True)
                for count in (self.training.keep, 1))
        self._initialize = tf.global_variables_initializer()
        kept = [variable for moments in self.moments
                for variable in (moments.population_mean, moments.population_variance)]
        self._statistics = [tf.placeholder(tf.float32, variable.shape) for variable in kept]
        self._assign_statistics = [variable.assign(value) for variable, value in zip(kept, self._statistics)]

    # ---- weights

    def initialize(self):
        """Fresh weights."""
        self.session.run(self._initialize)
        if self.training and self.learning.forget_added:
            self.session.run(self.learning.forget_added)

    def restore(self, checkpoint):
        """Weights from a checkpoint (path without suffix); where it has averages of them, those.

        Raises: tf.errors.OpError or ValueError if they are not there or do not fit.
        """
        stored = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
        names = {name: averaged_name(name) if averaged_name(name) in stored else name for name in self._variables}
        self._restore(checkpoint, {names[name]: variable for name, variable in self._variables.items()})

    def resume(self, checkpoint):
        """Everything that training goes on from. Returns the names of what the checkpoint lacks, which starts afresh:
        what an optimizer keeps, where another one wrote it, or averages. Raises: as `restore`, if it lacks weights.
        """
        self.initialize()
        stored = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
        lacking = [name for name in self._variables if name.startswith("training/") and name not in stored]
        self._restore(checkpoint, {name: variable for name, variable in self._variables.items()
                                   if name not in lacking})
        if any(name.endswith(WeightAverage.SUFFIX) for name in lacking):
            self.restart_average()
        return lacking

    def restart_average(self):
        """Begins the averages of the weights, where they are kept, with the weights as they are."""
        if self.learning.average:
            self.session.run(self.learning.average.restart)

    def _restore(self, checkpoint, variables):
        with self.graph.as_default():
            tf.train.Saver(variables).restore(self.session, checkpoint)

    def save(self, prefix):
        """Writes the checkpoint `prefix`-STEP, complete at once, and drops the oldest beyond those to keep."""
        return self._save(self._saver, prefix)

    def save_best(self, prefix):
        """The same for the best checkpoint, of which there is one."""
        return self._save(self._best_saver, prefix)

    def _save(self, saver, prefix):
        with self.graph.as_default():
            return saver.save(self.session, prefix, global_step=self.learning.global_step)

    def know_checkpoints(self, paths, best):
        """Tells what an earlier run kept, so that it is dropped in its turn: lists of paths, the oldest first. Of more
        than are to be kept, each one that is saved takes the place of one.
        """
        self._saver.recover_last_checkpoints(paths)
        self._best_saver.recover_last_checkpoints(best)

    @property
    def state(self):
        """What the run notes of itself: str, saved with the weights; '' at the start."""
        return self.session.run(self._state).decode()

    @state.setter
    def state(self, text):
        self.session.run(self._assign_state, {self._given_state: text})

    def weights(self):
        """What reading needs: dict of names -> arrays, averages where they are kept."""
        with self.graph.as_default():
            weights = [*tf.trainable_variables(), *(variable for name, variable in self._variables.items()
                                                    if "/population_" in name)]
        average = self.learning.average
        averaged = average.averaged if average else lambda variable: variable
        return self.session.run({variable.op.name: averaged(variable) for variable in weights})

    def values(self):
        """All that a checkpoint holds: dict of names -> arrays, as for `load`."""
        return self.session.run(self._variables)

    def load(self, weights):
        """Sets variables: dict of names -> arrays. KeyError for a name that is none."""
        # An initializer's second input is the value that it assigns.
        initializers = {self._variables[name].initializer: value for name, value in weights.items()}
        self.session.run(list(initializers), {op.inputs[1]: value for op, value in initializers.items()})

    @contextlib.contextmanager
    def _averaged_weights(self):
        """While a block runs, the weights are their averages, where these are kept."""
        average = self.learning.average
        if not average:
            yield
            return
        for op in (average.keep, average.put):
            self.session.run(op)
        try:
            yield
        finally:
            self.session.run(average.put_back)

    def estimate_statistics(self, batches):
        """Sets the batch norm layers' population statistics from training batches, with the weights as they are, or
        their averages where these are kept. Nothing is done where no such layer is trained.

        During the first hundreds of steps weights change faster than a moving average can follow, so none is kept:
        the statistics are taken anew before each checkpoint.

        Args: batches: iterable of (pixels [N, H, W, C], widths [N]), at least one.
        """
        moments = [(m.mean, m.variance) for m in self.moments]
        with self._averaged_weights():
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
        return int(self.session.run(self.learning.global_step))

    # ---- use

    def start(self, first_epoch=0, epochs=1, first_batch=0):
        """Goes to the start of the dataset. In training, passes have numbers, which their orders follow from.

        `epochs`: int, or None for no end. `first_batch`: int, batches of the first pass that are left out.
        """
        end = LAST_EPOCH if epochs is None else first_epoch + epochs
        self.session.run(self._iterator.initializer, {self._span: [first_epoch, end, first_batch]})

    def train(self, first_epoch=0, epochs=1, first_batch=0, learning_rate=None, looked_at=0):
        """Trains through the dataset: yields a TrainStep and a list of its batches' (pixels, widths) after each update.

        Args:
          first_epoch, epochs, first_batch: as in `start`.
          learning_rate: function that gives it for the next update; None: always the initial one.
          looked_at: int, batches at the start that are not trained on; what is yielded for them is (None, images).
        """
        self.start(first_epoch, epochs, first_batch)
        for _ in range(looked_at):
            yield None, [self.session.run(tuple(self.images))]
        # The same every time: TensorFlow takes a second to get ready for each other choice.
        learning = self.learning
        fetches = dict(step=learning.train_op, gradient_norm=learning.gradient_norm, **self._losses(),
                       epoch=self.batch.epoch, index=self.batch.index, numbers=self.batch.numbers,
                       images=tuple(self.images))
        while True:
            rate = learning_rate() if learning_rate else self.training.initial_learning_rate
            try:
                before = [self._accumulate() for _ in range(self.training.accumulate - 1)]
                got = self.session.run(fetches, {learning.learning_rate: rate})
            except tf.errors.OutOfRangeError:
                return
            if before:
                self.session.run(learning.forget_added)
            pixels, widths = got["images"]
            told = {name: float(np.mean([*(losses[name] for losses, _, _ in before), got[name]]))
                    for name in ("loss", "attention_loss", "ctc_loss")}
            unfitting = int(got["unfitting"] + sum(losses["unfitting"] for losses, _, _ in before))
            yield TrainStep(
                **told, unfitting=unfitting, learning_rate=rate,
                gradient_norm=float(got["gradient_norm"]), step=int(got["step"]), epoch=int(got["epoch"]),
                index=int(got["index"]),
                numbers=np.concatenate([*(numbers for _, numbers, _ in before), got["numbers"]]),
                padding=1.0 - np.sum(widths) / (len(widths) * pixels.shape[2])), [
                    *(images for _, _, images in before), (pixels, widths)]

    def update(self, learning_rate):
        """Makes the update of the gradients that met: (their norm, the global step after it)."""
        norm, step = self.session.run(self.learning.update_op, {self.learning.learning_rate: learning_rate})
        return float(norm), int(step)

    def _accumulate(self):
        """Adds a batch's gradients to those of the next update: (losses, record numbers, images)."""
        found, numbers, images, _ = self.session.run(
            (self._losses(), self.batch.numbers, tuple(self.images), self.learning.add_op))
        return found, numbers, images

    def _losses(self):
        """What a step tells of its losses."""
        return dict(loss=self.loss, attention_loss=self.attention_loss, ctc_loss=self.ctc_loss,
                    unfitting=self.unfitting)

    def read(self):
        """Reads the dataset: yields a Reading for each sample, in the order of the batches."""
        self.start()
        fetches = dict(batch=self.batch._replace(pixels=()), text=self.prediction, probability=self.probability,
                       losses=self.sample_losses, attention=self.reading.attention, ids=self.reading.ids)
        if self.reading.candidates:
            fetches["candidates"] = self.reading.candidates._replace(attention=())
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
            ends = np.flatnonzero(got["ids"][k] == EOS_ID)
            steps = ends[0] + 1 if len(ends) else got["ids"].shape[1]
            length = -(-int(batch.widths[k]) // self.config.network.stride)
            comment = batch.comments[k].decode("utf-8", "replace")  # a path may be no text
            yield Reading(int(number), batch.labels[k].decode(), comment, batch.encoded[k], int(batch.widths[k]), read,
                          float(got["probability"][k]), float(got["losses"][k]), got["attention"][k, :steps, :length],
                          self._candidates(got["candidates"], k) if "candidates" in got else ())

    def _candidates(self, got, k):
        """The Candidates of the k-th image, from the arrays of decoding.Candidates."""
        return tuple(Candidate(self.charset.decode(ids), float(by_attention), float(by_ctc))
                     for ids, by_attention, by_ctc in zip(got.ids[k], got.by_attention[k], got.by_ctc[k]))

    def predict(self, encoded):
        """Reads images: a list of encoded image files -> a list of (text, probability).

        Raises tf.errors.InvalidArgumentError if one of them cannot be decoded.
        """
        texts, probabilities = self.session.run([self.prediction, self.probability], {self.encoded: list(encoded)})
        return [(read.decode(), float(probability)) for read, probability in zip(texts, probabilities)]
