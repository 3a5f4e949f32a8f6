"""From gradients to new weights: optimizers, accumulation over batches and processes, averages of the weights."""

import math
from collections.abc import Sequence

import tensorflow.compat.v1 as tf

ADADELTA_RHO, ADADELTA_EPSILON = 0.95, 1e-8  # Zeiler, arXiv 1212.5701
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8  # Kingma and Ba, arXiv 1412.6980


def make_optimizer(name: str, rate: tf.Tensor) -> tf.train.Optimizer:
    """Returns the named optimizer with learning rate `rate` (float32 []); AdamW's decay is applied by `update`."""
    if name == "adadelta":
        return tf.train.AdadeltaOptimizer(rate, ADADELTA_RHO, ADADELTA_EPSILON)
    return tf.train.AdamOptimizer(rate, ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON)


def update(optimizer: tf.train.Optimizer, gradients: Sequence[tuple[tf.Tensor, tf.Variable]], *, step: tf.Variable,
           decay: tf.Tensor | None = None) -> tf.Operation:
    """Returns the op that applies gradients, each paired with its variable.

    `step`: the global step, which the op increments. `decay`: float32 [], share that each kernel loses first,
    decoupled from the gradients (Loshchilov and Hutter, arXiv 1711.05101); biases and scales do not decay.
    """
    kernels = [variable for _, variable in gradients if variable.shape.rank > 1] if decay is not None else []
    with tf.control_dependencies([gradient for gradient, _ in gradients]):  # they read the weights before decay
        decayed = [variable.assign_sub(decay * variable) for variable in kernels]
    with tf.control_dependencies(decayed):
        return optimizer.apply_gradients(gradients, global_step=step)


class Accumulator:
    """Sums of gradients over several batches, for batches larger than memory, in local variables."""

    def __init__(self, variables: Sequence[tf.Variable], batches: int):
        """`batches`: number of batches per update; their gradients are averaged."""
        self._share = 1.0 / batches
        self._sums = [tf.get_local_variable(f"{variable.op.name}/sum", variable.shape, tf.float32,
                                            tf.zeros_initializer(), use_resource=True) for variable in variables]
        self.initializer = tf.variables_initializer(self._sums)

    def add(self, gradients: Sequence[tf.Tensor]) -> tf.Operation:
        """Returns the op that adds one batch's gradients."""
        return tf.group([total.assign_add(gradient * self._share)
                         for total, gradient in zip(self._sums, gradients)])

    def total(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums plus the last batch's gradients."""
        return [total + gradient * self._share for total, gradient in zip(self._sums, gradients)]


class SyncAccumulator:
    """Collects the gradients of several processes on other devices; their mean makes an update.

    All gradients form one vector, cut into a piece for each device. Gradients of an earlier step than the accumulator's
    are dropped as stale (Chen et al., arXiv 1604.00981).
    """

    def __init__(self, variables: Sequence[tf.Variable], devices: Sequence[str]):
        """`variables`: those of the gradients."""
        self._shapes = [variable.shape.as_list() for variable in variables]
        total = sum(map(math.prod, self._shapes))
        self._sizes = [total * (k + 1) // len(devices) - total * k // len(devices) for k in range(len(devices))]
        self._pieces = []
        for k, (device, size) in enumerate(zip(devices, self._sizes)):
            with tf.device(device):
                self._pieces.append((device, tf.ConditionalAccumulator(tf.float32, [size], shared_name=f"sync{k}")))
        self.brought = tf.reduce_min(self._on_each(lambda piece: piece.num_accumulated()))

    def _on_each(self, function):
        """Calls `function` with each device's accumulator, on that device: list of results."""
        results = []
        for device, piece in self._pieces:
            with tf.device(device):
                results.append(function(piece))
        return results

    def bring(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> tf.Operation:
        """Returns the op that adds one process's gradients, of the weights of this step (int64 [])."""
        vector = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        parts = iter(tf.split(vector, self._sizes))
        return tf.group(self._on_each(lambda piece: piece.apply_grad(next(parts), local_step=step)))

    def mean(self) -> list[tf.Tensor]:
        """Returns the mean of the gradients brought so far and clears them. Blocks until there is one."""
        vector = tf.concat(self._on_each(lambda piece: piece.take_grad(1)), 0)
        parts = tf.split(vector, [math.prod(shape) for shape in self._shapes])
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes)]

    def start(self, step: tf.Tensor | tf.Variable) -> tf.Operation:
        """Returns the op that discards all gradients and then accepts those of the given step."""
        # A zero gradient of a step that is never stale is added first, so that taking does not block.
        sizes = iter(self._sizes)
        added = self._on_each(lambda piece: piece.apply_grad(tf.zeros([next(sizes)]), local_step=tf.int64.max))
        with tf.control_dependencies(added):
            taken = self._on_each(lambda piece: piece.take_grad(1))
        with tf.control_dependencies(taken):
            return tf.group(self._on_each(lambda piece: piece.set_global_step(step)))


class WeightAverage:
    """Exponential moving averages of the trained weights, used instead of them outside training.

    The decay is at most (1 + n) / (10 + n) at the n-th step, so that the first weights are soon forgotten.
    """

    SUFFIX: str = "ExponentialMovingAverage"  # of the names in a checkpoint

    def __init__(self, decay: float, variables: Sequence[tf.Variable], step: tf.Variable, after: tf.Operation):
        """`decay`: in (0, 1). `variables`: the weights. `step`: the global step. `after`: op that `update` waits for.
        """
        averages = tf.train.ExponentialMovingAverage(decay, num_updates=step)
        with tf.control_dependencies([after]):
            self.update = averages.apply(variables)
        self._pairs = [(variable, averages.average(variable)) for variable in variables]
        self.restart = tf.group([average.assign(variable) for variable, average in self._pairs])
        self.put = tf.group([variable.assign(average) for variable, average in self._pairs])

    def averaged(self, variable: tf.Variable) -> tf.Variable:
        """Returns the variable that holds a weight's average; for any other variable, the variable itself."""
        return next((average for weight, average in self._pairs if weight is variable), variable)
