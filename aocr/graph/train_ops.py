"""The training stage: from the loss to the update of the weights."""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from aocr.config import TrainConfig
from aocr.graph.optimizer import Accumulator, SyncAccumulator, WeightAverage, make_optimizer, update


class TrainOps:
    """The ops that train one model, in the scope `training`, which names the training-only variables in a checkpoint.

    `train_op` runs one step and returns the global step after it, `gradient_norm` the global norm of its gradients;
    both take `learning_rate`, a placeholder. If a step consists of several batches, `add_op` adds each of them but the
    last, and `forget_added` runs after the step; else both are None. `average` is the WeightAverage or None.

    If several processes share their gradients, at `accumulator`, `train_op` only adds its own there and returns their
    step; one process makes the update for all by `update_op`: (norm of the mean gradients, the step after it).
    `start_accumulating` makes the accumulator accept the gradients of the global step.
    """

    def __init__(self, loss: tf.Tensor, config: TrainConfig, *, towers: int = 1, accumulators: Sequence[str] = ()):
        """`loss`: float32 []. `towers`: number of devices that share the batch. `accumulators`: as in Placement."""
        self._config = config
        self._trained = [variable for variable in tf.trainable_variables()
                         if variable.op.name.split("/")[0] not in config.frozen]
        self.global_step = tf.train.get_or_create_global_step()
        with tf.variable_scope("training"):
            self.learning_rate = tf.placeholder_with_default(
                tf.constant(config.initial_learning_rate), [], "learning_rate")
            self._optimizer = make_optimizer(config.optimizer, self.learning_rate)
            gradients = [gradient for gradient, _ in self._optimizer.compute_gradients(
                loss, self._trained, colocate_gradients_with_ops=towers > 1)]
            self.add_op: tf.Operation | None = None
            self.forget_added: tf.Operation | None = None
            self.average: WeightAverage | None = None
            if config.accumulate > 1:
                gradients = self._accumulated(gradients)
            if accumulators:
                self._accumulate_of_all(gradients, accumulators)
            else:
                self.gradient_norm, self.train_op = self._updated(gradients)

    def _accumulated(self, gradients):
        """Returns the mean gradients of several batches, the last one's being `gradients`."""
        accumulator = Accumulator(self._trained, self._config.accumulate)
        self.add_op, self.forget_added = accumulator.add(gradients), accumulator.initializer
        return accumulator.total(gradients)

    def _updated(self, gradients):
        """Returns (global norm of the gradients, global step after the update), clipping as Pascanu et al. 2013."""
        config = self._config
        norm = tf.global_norm(gradients, name="total_gradient_norm")
        if config.gradient_clipping:
            gradients, _ = tf.clip_by_global_norm(gradients, config.max_gradient_norm, norm)
        decay = self.learning_rate * config.weight_decay if config.optimizer == "adamw" else None
        done = update(self._optimizer, list(zip(gradients, self._trained)), step=self.global_step, decay=decay)
        if config.ema:
            self.average = WeightAverage(config.ema, tf.trainable_variables(), self.global_step, after=done)
            done = self.average.update
        with tf.control_dependencies([done]):
            return norm, self.global_step.read_value()

    def _accumulate_of_all(self, gradients, devices):
        """Adds gradients to a SyncAccumulator on these devices, and updates from there."""
        self.accumulator = SyncAccumulator(self._trained, devices)
        self.gradient_norm = tf.global_norm(gradients, name="own_gradient_norm")
        step = self.global_step.read_value()
        with tf.control_dependencies([self.accumulator.bring(gradients, step)]):
            self.train_op = tf.identity(step)
        self.update_op = self._updated(self.accumulator.mean())
        self.start_accumulating = self.accumulator.start(self.global_step)
