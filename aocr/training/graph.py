"""The training graph: a model with losses, updates of its weights, and the state of a run."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.augment.ops import variant_seed
from aocr.augment.recipes import Recipe
from aocr.charset import FIRST_ID
from aocr.config import TrainConfig
from aocr.data.pipeline import Source
from aocr.graph import ctc, guidance, losses
from aocr.graph.decoder import TeacherForcing
from aocr.graph.layers import Initializers
from aocr.graph.optimizer import WeightAverage
from aocr.graph.placement import Placement
from aocr.graph.towers import split_batch, total_moments
from aocr.graph.train_ops import TrainOps
from aocr.inputs import Examples
from aocr.model import STATE_VARIABLE, Model
from aocr.network import Network
from aocr.training.statistics import Sample, Statistics
from aocr.weights import check_finite, check_fit, reader_of


class TrainStep(NamedTuple):
    """The outcome of one training step."""

    loss: float  # the total, which the gradients minimize
    attention_loss: float  # with teacher forcing; nats per decoder step
    ctc_loss: float  # nats per character; 0 without CTC
    unfitting: int  # labels of the batch that are too long for CTC
    gradient_norm: float
    learning_rate: float
    step: int  # global, after this step
    epoch: int  # number of the pass over the data
    index: int  # type: ignore[assignment]  # batch number in the epoch, from 0; hides tuple.index, not needed
    numbers: np.ndarray  # the batch's record numbers
    padding: float  # fraction of the batch's pixels


class SampleLosses(NamedTuple):
    """Losses of each sample, [N] float32 each."""

    attention: tf.Tensor  # teacher forced; nats per step
    ctc: tf.Tensor  # nats per character; 0 where the label does not fit
    fitting: tf.Tensor  # 1 where the label fits into CTC's steps, else 0
    attention_strayed: tf.Tensor  # distance of attention from where it should be, of guidance.attention_guidance
    ctc_strayed: tf.Tensor  # the same for CTC, of guidance.ctc_guidance


class TrainingGraph:
    """A Model (`model`) with losses, updates and run state; each device trains on its part of a batch."""

    def __init__(self, network: Network, examples: Examples, config: TrainConfig, *, sample: Sample,
                 placement: Placement, precision: str = "float32", session_config: tf.ConfigProto | None = None):
        """Must be called in the graph of the examples, within the placement's outer device.

        `sample`: images for estimating batch norm's population statistics.
        """
        self.config, self._network, self._examples = config, network, examples
        self._placement, self._dtype = placement, tf.as_dtype(precision)
        self._parts = split_batch(examples.images, examples.batch, len(placement.towers))
        count, _, columns, _ = tf.unstack(tf.shape(examples.images.pixels))
        self._padding = 1.0 - tf.reduce_sum(examples.images.widths) / (count * columns)
        self._add_network()
        self._add_loss()
        self.train_ops = TrainOps(self.loss, config, towers=len(self._parts), accumulators=placement.accumulators)
        self._add_state()
        self._statistics, self._sample = Statistics(examples.images, self.moments), sample
        self.model = Model(network, examples, branches=self._branches[0], target=placement.target,
                           session_config=session_config)

    def __enter__(self) -> "TrainingGraph":
        return self

    def __exit__(self, *_) -> None:
        self.session.close()

    @property
    def session(self) -> tf.Session:
        """The model's session."""
        return self.model.session

    # ---- the graph, in phases

    def _add_network(self):
        """Builds the branches of each device; sets `moments`, of the trained batch norm layers."""
        learning = "cnn" not in self.config.frozen
        initializers = Initializers(he=self.config.initializer == "he", forget_bias=self.config.forget_bias)
        self._branches = []
        for k, part in enumerate(self._parts):
            with self._placement.tower(k):
                self._branches.append(self._network.build(
                    part.images, is_training=learning, dtype=self._dtype, initializers=initializers,
                    dropout=self._dropout(k), reuse=k > 0))
        self.moments = []
        if learning:
            self.moments = total_moments([branches.moments for branches in self._branches],
                                         tf.stack([part.columns for part in self._parts]))

    def _dropout(self, tower):
        """Returns a tower's dropout on features; stateless, so that a resumed run drops the same ones."""
        def drop(features):
            batch = self._examples.batch
            seed = variant_seed(self.config.seed + tower, batch.epoch, batch.index)
            return tf.compat.v2.nn.experimental.stateless_dropout(features, self.config.dropout, seed)
        return drop

    def _add_loss(self):
        """Sets `loss` and its parts: `attention_loss`, `ctc_loss`, `unfitting`."""
        towers = []
        for k, (part, branches) in enumerate(zip(self._parts, self._branches)):
            with self._placement.tower(k):
                towers.append(self._losses_of(part, branches))
        if len(towers) > 1:  # the parts end in blank rows, which do not count
            found = SampleLosses(*(tf.concat([values[:part.size] for values, part in zip(field, self._parts)], 0)
                                   for field in zip(*towers)))
        else:
            found = towers[0]
        self.attention_loss = tf.reduce_mean(found.attention)
        self.ctc_loss = tf.reduce_sum(found.ctc) / tf.maximum(tf.reduce_sum(found.fitting), 1.0)
        self.unfitting = tf.reduce_sum(1.0 - found.fitting)
        weight = self.config.ctc_weight
        self.loss = (1.0 - weight) * self.attention_loss + weight * self.ctc_loss
        if self.config.guided_attention:
            self.loss += guidance.guiding_loss(self.config, found.attention, found.attention_strayed, found.ctc,
                                               found.ctc_strayed)

    def _losses_of(self, part, branches):
        """Returns the SampleLosses of a device's part of the batch."""
        config = self._network.config
        right_to_left = config.right_to_left
        decoder, logits, lengths, _ = branches
        forced = decoder.decode(tf.shape(part.inputs)[1], TeacherForcing(part.inputs))
        by_attention = losses.sequence_loss(forced.logits, part.targets, part.weights, self.config.label_smoothing)
        even = guidance.diagonal(part.images.pixels, config.network.stride, right_to_left)
        if not config.ctc:
            nothing = tf.zeros_like(by_attention)
            strayed = guidance.attention_guidance(forced.attention, part.weights, even)
            return SampleLosses(by_attention, nothing, tf.ones_like(by_attention), strayed, nothing)
        characters = tf.where(part.targets >= FIRST_ID, part.targets, tf.zeros_like(part.targets))
        count = tf.reduce_sum(part.weights, 1) - 1.0  # without EOS
        fitting = tf.cast(ctc.fits(characters, lengths), tf.float32)
        by_ctc = -ctc.log_probability(logits, lengths, characters) / tf.maximum(count, 1.0)
        seen_by_ctc = guidance.following_ctc(even, logits, lengths, by_ctc, count, right_to_left)
        seen_by_attention = guidance.following_attention(even, forced.attention, part.weights, by_attention,
                                                         right_to_left)
        return SampleLosses(
            by_attention, by_ctc * fitting, fitting,
            guidance.attention_guidance(forced.attention, part.weights, seen_by_ctc),
            guidance.ctc_guidance(logits, lengths, seen_by_attention, right_to_left))

    def _add_state(self):
        """Adds the variable that holds the run's state."""
        self._state = tf.get_variable(STATE_VARIABLE, [], tf.string, tf.constant_initializer(""), trainable=False,
                                      use_resource=True)
        with tf.name_scope("training"):
            self._given_state = tf.placeholder(tf.string, [], "given_state")
            self._assign_state = self._state.assign(self._given_state)

    # ---- weights and state

    def initialize(self) -> None:
        """Initializes all variables."""
        self.model.initialize()
        if self.train_ops.forget_added:
            self.session.run(self.train_ops.forget_added)

    def resume(self, checkpoint: str) -> list[str]:
        """Restores weights and training state. Returns the training variables that the checkpoint lacks (of another
        optimizer, or averages), which are reinitialized. Raises: tf.errors.OpError if the checkpoint cannot be read;
        UserError if weights are missing, of another shape, NaN or infinite.
        """
        self.initialize()
        with reader_of(checkpoint) as reader:
            stored = reader.get_variable_to_shape_map()
            missing = [name for name in self.model.variables if name.startswith("training/") and name not in stored]
            wanted = {name: variable for name, variable in self.model.variables.items() if name not in missing}
            check_fit(stored, wanted, checkpoint)
            values = {name: np.asarray(reader.get_tensor(name)) for name in wanted}
        check_finite(values, checkpoint)
        self.model.load(values)
        if any(name.endswith(WeightAverage.SUFFIX) for name in missing):
            self.restart_average()
        return missing

    def restart_average(self) -> None:
        """Restarts the weight averages, if any, from the current weights."""
        if self.train_ops.average:
            self.session.run(self.train_ops.average.restart)

    @property
    def state(self) -> str:
        """The run's state as text, saved with the weights; '' at the start."""
        return self.session.run(self._state).decode()

    @state.setter
    def state(self, text: str) -> None:
        self.session.run(self._assign_state, {self._given_state: text})

    def step(self) -> int:
        """Returns the global step of the weights."""
        return int(self.session.run(self.train_ops.global_step))

    def weights(self) -> dict[str, np.ndarray]:
        """Returns weights (their averages, if any) and population statistics by name."""
        with self.model.graph.as_default():
            weights = [*tf.trainable_variables(), *(variable for name, variable in self.model.variables.items()
                                                    if "/population_" in name)]
        average = self.train_ops.average
        averaged = average.averaged if average else lambda variable: variable
        return self.session.run({variable.op.name: averaged(variable) for variable in weights})

    def estimate_statistics(self, images: int) -> None:
        """Estimates batch norm's population statistics from at least `images` images of the sample, under the weight
        averages, if any. Does nothing if no batch norm layer is trained.
        """
        if self.moments:
            batches = self._sample.take(self.session, images)
            with self._averaged_weights():
                self._statistics.estimate(self.session, batches)

    @contextlib.contextmanager
    def _averaged_weights(self):
        """Replaces the weights by their averages, if any, within a block."""
        average = self.train_ops.average
        if not average:
            yield
            return
        with self.model.graph.as_default():
            weights = self.session.run({variable.op.name: variable for variable in tf.trainable_variables()})
        self.session.run(average.put)
        try:
            yield
        finally:
            self.model.load(weights)

    # ---- steps

    def train(self, first_epoch: int = 0, epochs: int | None = 1, first_batch: int = 0,
              learning_rate: Callable | None = None) -> Iterator[TrainStep]:
        """Trains on the dataset; yields a TrainStep after each update.

        Args:
          first_epoch, epochs, first_batch: as in Examples.start.
          learning_rate: function that returns the rate of the next update; None: always the initial one.
        """
        self._examples.start(self.session, first_epoch, epochs, first_batch)
        # Always the same fetches: TensorFlow needs a second to prepare each new set.
        ops, batch = self.train_ops, self._examples.batch
        fetches = dict(step=ops.train_op, gradient_norm=ops.gradient_norm, losses=self._losses(),
                       epoch=batch.epoch, index=batch.index, numbers=batch.numbers, padding=self._padding)
        while True:
            rate = learning_rate() if learning_rate else self.config.initial_learning_rate
            try:
                before = [self._accumulate() for _ in range(self.config.accumulate - 1)]
                got = self.session.run(fetches, {ops.learning_rate: rate})
            except tf.errors.OutOfRangeError:
                return
            if before:
                self.session.run(ops.forget_added)
            yield _step_of([*before, got], rate)

    def update(self, learning_rate: float) -> tuple[float, int]:
        """Applies the mean gradients of all processes. Returns their norm and the global step after it."""
        norm, step = self.session.run(self.train_ops.update_op, {self.train_ops.learning_rate: learning_rate})
        return float(norm), int(step)

    def _accumulate(self):
        """Adds a batch's gradients to the next update; returns its losses and record numbers."""
        return self.session.run(dict(losses=self._losses(), numbers=self._examples.batch.numbers,
                                     added=self.train_ops.add_op))

    def _losses(self):
        return dict(loss=self.loss, attention_loss=self.attention_loss, ctc_loss=self.ctc_loss,
                    unfitting=self.unfitting)


def _step_of(parts, rate):
    """Returns the TrainStep of one update, from the fetches of its batches; only the last has all of them."""
    last = parts[-1]
    means = {name: float(np.mean([part["losses"][name] for part in parts]))
             for name in ("loss", "attention_loss", "ctc_loss")}
    return TrainStep(
        **means, unfitting=int(sum(part["losses"]["unfitting"] for part in parts)), learning_rate=rate,
        gradient_norm=float(last["gradient_norm"]), step=int(last["step"]), epoch=int(last["epoch"]),
        index=int(last["index"]), numbers=np.concatenate([part["numbers"] for part in parts]),
        padding=float(last["padding"]))


def open_training_graph(network: Network, source: Source, config: TrainConfig, *, recipe: Recipe | None = None,
                        placement: Placement | None = None, precision: str = "float32",
                        session_config: tf.ConfigProto | None = None) -> TrainingGraph:
    """Returns a TrainingGraph in a new tf.Graph. `source`, `recipe`: as of Examples."""
    placement = placement or Placement()
    with tf.Graph().as_default(), tf.device(placement.outer):  # None: TensorFlow chooses
        tf.set_random_seed(config.seed)
        examples = Examples(network, source, shuffled=True, recipe=recipe, seed=config.seed)
        with tf.name_scope("statistics"):
            sample = Sample(Examples(network, source._replace(cache=False), shuffled=True), config.seed)
        return TrainingGraph(network, examples, config, sample=sample, placement=placement, precision=precision,
                             session_config=session_config)
