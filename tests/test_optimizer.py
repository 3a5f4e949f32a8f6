"""Updates of the weights, against hand-computed values."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.optimizer import Accumulator, WeightAverage, make_optimizer, update


class Weights:
    """A graph and session with a kernel [1, 2] of 2 and 4, a bias [1] of 3, and the global step."""

    def __enter__(self):
        self._context = tf.Graph().as_default()
        self._context.__enter__()
        self.step = tf.train.get_or_create_global_step()
        self.kernel = tf.get_variable("kernel", initializer=[[2.0, 4.0]], use_resource=True)
        self.bias = tf.get_variable("bias", initializer=[3.0], use_resource=True)
        self.session = tf.Session()
        return self

    def __exit__(self, *_):
        self.session.close()
        self._context.__exit__(None, None, None)

    def run(self, op):
        return self.session.run(op)

    def start(self):
        self.run([tf.global_variables_initializer(), tf.local_variables_initializer()])


def test_decay_takes_its_share_of_kernels_only():
    with Weights() as weights:
        gradients = [(tf.constant([[0.0, 1.0]]), weights.kernel), (tf.constant([1.0]), weights.bias)]
        done = update(tf.train.GradientDescentOptimizer(0.5), gradients, step=weights.step, decay=tf.constant(0.1))
        weights.start()
        weights.run(done)
        np.testing.assert_allclose(weights.run(weights.kernel), [[2 * 0.9, 4 * 0.9 - 0.5]])
        np.testing.assert_allclose(weights.run(weights.bias), [2.5])
        assert weights.run(weights.step) == 1


@pytest.mark.parametrize("name, first", [
    ("adam", 0.1), ("adamw", 0.1),  # the first step of Adam is the rate, whatever the gradient
    # AdaDelta: g * sqrt(0 + e) / sqrt(0.05 g^2 + e), times the rate
    ("adadelta", 0.1 * 3.0 * np.sqrt(1e-8) / np.sqrt(0.05 * 9.0 + 1e-8)),
])
def test_the_first_step_of_each_optimizer(name, first):
    with Weights() as weights:
        done = update(make_optimizer(name, tf.constant(0.1)), [(tf.constant([3.0]), weights.bias)], step=weights.step)
        weights.start()
        weights.run(done)
        assert weights.run(weights.bias)[0] == pytest.approx(3.0 - first, rel=1e-5)


def test_gradients_of_several_batches_are_averaged():
    with Weights() as weights:
        gradient = tf.placeholder(tf.float32, [1])
        accumulator = Accumulator([weights.bias], 3)
        add, total = accumulator.add([gradient]), accumulator.total([gradient])
        weights.start()
        for _ in range(2):
            for value in (1.0, 4.0):
                weights.session.run(add, {gradient: [value]})
            np.testing.assert_allclose(weights.session.run(total, {gradient: [7.0]}), [[4.0]])
            weights.run(accumulator.initializer)


def test_averages_follow_the_weights():
    """At the n-th step the decay is min(0.9, (1 + n) / (10 + n)): 2/11 and 3/12 here."""
    with Weights() as weights:
        done = update(tf.train.GradientDescentOptimizer(1.0), [(tf.constant([1.0]), weights.bias)], step=weights.step)
        average = WeightAverage(0.9, [weights.bias], weights.step, after=done)
        weights.start()
        expected = 3.0
        for value, decay in ((2.0, 2 / 11), (1.0, 3 / 12)):
            weights.run(average.update)
            expected = decay * expected + (1 - decay) * value
            np.testing.assert_allclose(weights.run(average.averaged(weights.bias)), [expected], rtol=1e-6)
        assert average.averaged(weights.kernel) is weights.kernel
        weights.run(average.put)
        np.testing.assert_allclose(weights.run(weights.bias), [expected], rtol=1e-6)
        weights.bias.load([1.0], weights.session)
        weights.run(average.restart)
        np.testing.assert_allclose(weights.run(average.averaged(weights.bias)), [1.0])
