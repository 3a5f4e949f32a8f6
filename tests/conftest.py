"""Fixtures shared by several test modules."""

import os
import signal
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

pytest_plugins = ["model_fixtures"]

# A shell starts background jobs with SIGINT ignored, which the commands under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--serving-url", metavar="URL", help="also check this server's answers, of TensorFlow Serving or "
                                                          "`aocr serve`, such as http://localhost:8501/v1/models/aocr")


# On a GPU, TensorFlow would round the factors of products to 10 bits, and the tests compare with NumPy. Read by the
# CUDA libraries, also in the processes that tests start.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")

SLOW = ("test_cluster.py", "test_survival.py", "test_training.py")  # minutes each; started first, they end in time


def pytest_collection_modifyitems(items):
    """Runs the slow files first: two processes share the files (Makefile), and neither should wait for the other."""
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture(scope="module", autouse=True)
def unoptimized_graphs(request):
    """Leaves TensorFlow's graph optimizer out of the sessions that a module opens in this process.

    Small models gain less by it than it takes. The end-to-end tests, and all processes that tests start, have it.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_end_to_end.py":
            patch.setattr(tf, "Session", UnoptimizedSession)
        yield


class UnoptimizedSession(tf.Session):
    """A session without TensorFlow's graph optimizer."""

    def __init__(self, target="", graph=None, config=None):
        config = config or tf.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        super().__init__(target, graph, config)


class Bench:
    """A piece of the network in a separate graph and session.

    `weights` maps a variable's name to its value, `initial` to its initial value in training. Values are drawn from a
    random state seeded by the name, so that the same pieces in two graphs have the same weights.
    """

    def __init__(self, build, feed, weights):
        """`build`: a function of tensors, named as in `feed`, that returns what to fetch."""
        with tf.Graph().as_default() as self.graph:
            self._inputs = {name: _placeholder(name, value) for name, value in feed.items()}
            self._fetches = build(**self._inputs)
            variables = {variable.op.name: variable for variable in tf.global_variables()}
            self.trainable = [variable.op.name for variable in tf.trainable_variables()]
            self.session = tf.Session()
            self.session.run(tf.global_variables_initializer())
        self.initial = self.session.run(variables)
        self.weights = {name: _drawn(name, value.shape) for name, value in self.initial.items()}
        self.weights.update(weights)
        # An initializer's second input is the value that it assigns.
        self.session.run([variable.initializer for variable in variables.values()], {
            variables[name].initializer.inputs[1]: value for name, value in self.weights.items()})

    def run(self, **feed):
        """Returns the results of `build`, as arrays."""
        return self.session.run(self._fetches, {self._inputs[name]: value for name, value in feed.items()})


def _placeholder(name, value):
    """Makes a placeholder with a value's last dimension if it has several, and all others unknown."""
    value = np.asarray(value)
    shape = [None] * (value.ndim - 1) + [value.shape[-1]] if value.ndim > 1 else [None] * value.ndim
    return tf.placeholder(tf.as_dtype(value.dtype), shape, name)


def _drawn(name, shape):
    """Draws values that preserve the scale of signals, none of them special (no zeros, no ones)."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("variance"):
        return random.uniform(0.5, 2.0, shape)
    return random.normal(size=shape) * (1.5 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3)


@pytest.fixture
def bench():
    """Makes a Bench: `bench(build, feed, weights={})`; `feed` maps names to arrays of the rank and type to come."""
    made = []

    def make(build, feed, weights=()):
        made.append(Bench(build, feed, dict(weights)))
        return made[-1]

    yield make
    for one in made:
        one.session.close()


@pytest.fixture
def run_graph(bench):
    """Runs a function of tensors once: `run_graph(build, **feed)` returns its results, as arrays."""
    return lambda build, **feed: bench(build, feed).run(**feed)


@pytest.fixture
def count_nodes():
    """Counts the nodes of a tf.Graph, including those of its functions (loop bodies among them)."""

    def count(graph):
        definition = graph.as_graph_def()
        return len(definition.node) + sum(len(function.node_def) for function in definition.library.function)

    return count
