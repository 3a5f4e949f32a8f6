"""The model: a network on its inputs, with its session and its weights."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import EOS_ID
from aocr.config import Decoding
from aocr.data.pipeline import Source
from aocr.graph import losses, text
from aocr.graph.decoder import TeacherForcing
from aocr.graph.decoding import transcribe
from aocr.inputs import EncodedImages, Examples
from aocr.network import AnyNetwork, Branches
from aocr.prediction import Candidate, Prediction
from aocr.weights import check_fit

PREDICTION_NAME, PROBABILITY_NAME = "prediction", "probability"
STATE_VARIABLE = "training/state"  # a run's own state, saved together with the weights


class Model:
    """A network on images, with its tf.Graph and tf.Session: restores and returns weights, and reads.

    With EncodedImages it reads images that a caller feeds (`predict`, export), with Examples a dataset (`read`).
    """

    def __init__(self, network: AnyNetwork, inputs: EncodedImages | Examples, *, decoding: Decoding | None = None,
                 branches: Branches | None = None, precision: str = "float32", target: str = "",
                 session_config: tf.ConfigProto | None = None):
        """Must be called in the graph of the inputs; the session sees ops that are added later.

        Args:
          decoding: how to read; None: build no ops for reading.
          branches: of the network on these inputs, if it is built already.
          precision: number format of the convolutions.
          target, session_config: as of tf.Session.
        """
        self.network, self.inputs, self.graph = network, inputs, tf.get_default_graph()
        self.config, self.charset, self.decoding = network.config, network.charset, decoding
        self.branches = branches or network.build(inputs.images, dtype=tf.as_dtype(precision))
        if decoding:
            self._add_prediction(decoding)
            if inputs.batch:
                self._add_losses()
        self._target, self._session_config = target, session_config
        self.connect()

    def connect(self) -> None:
        """Opens a session. A cluster's weights persist; others must be initialized or restored again."""
        self.session = tf.Session(self._target, graph=self.graph, config=self._session_config)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self.session.close()

    # ---- the graph

    def _add_prediction(self, decoding):
        """Sets `reading` (decoding.Transcription), `prediction` and `probability`, in the shape of the inputs."""
        decoder, ctc_logits, lengths = self.branches[:3]
        self.reading = transcribe(decoding, decoder, ctc_logits, lengths, self.network.decoder_steps)
        shape = self.inputs.shape
        count = tf.reduce_prod(shape)
        prediction = text.ids_to_text(self.reading.ids, self.charset)  # [N]
        self.prediction = tf.reshape(prediction[:count], shape, name=PREDICTION_NAME)
        self.probability = tf.reshape(self.reading.probability[:count], shape, name=PROBABILITY_NAME)

    def _add_losses(self):
        """Sets `sample_losses` [N], the attention decoder's with teacher forcing."""
        batch = self.inputs.batch
        forced = self.branches.decoder.decode(tf.shape(batch.inputs)[1], TeacherForcing(batch.inputs))
        self.sample_losses = losses.sequence_loss(forced.logits, batch.targets, batch.weights)

    # ---- weights

    @functools.cached_property
    def variables(self) -> dict[str, tf.Variable]:
        """All variables of the graph by their checkpoint names."""
        with self.graph.as_default():
            return {variable.op.name: variable for variable in tf.global_variables()}

    def initialize(self) -> None:
        """Initializes all variables."""
        self.session.run([variable.initializer for variable in self.variables.values()])

    def take(self, weights: dict[str, np.ndarray], checkpoint: str) -> None:
        """Sets all variables to the weights that were read from a checkpoint. UserError if they do not fit."""
        check_fit({name: value.shape for name, value in weights.items()}, self.variables, checkpoint)
        self.load({name: weights[name] for name in self.variables})

    def values(self) -> dict[str, np.ndarray]:
        """Returns the values of all variables, as for `load`."""
        return self.session.run(self.variables)

    def load(self, values: dict[str, np.ndarray]) -> None:
        """Sets variables by their names. KeyError for a name that the graph lacks."""
        # An initializer's second input is the value that it assigns.
        initializers = {self.variables[name].initializer: value for name, value in values.items()}
        self.session.run(list(initializers), {op.inputs[1]: value for op, value in initializers.items()})

    # ---- use

    def predict(self, encoded: Iterable[bytes]) -> list[tuple[str, float]]:
        """Reads encoded images; returns (text, probability) of each.

        Raises: tf.errors.InvalidArgumentError if one of them cannot be decoded.
        """
        texts, probabilities = self.session.run([self.prediction, self.probability],
                                                {self.inputs.encoded: list(encoded)})
        return [(read.decode(), float(probability)) for read, probability in zip(texts, probabilities)]

    def read(self) -> Iterator[Prediction]:
        """Reads the dataset; yields a Prediction of each sample, in the order of the batches."""
        inputs = self.inputs
        assert isinstance(inputs, Examples)
        inputs.start(self.session)
        fetches = dict(batch=inputs.batch._replace(pixels=()), text=self.prediction, probability=self.probability,
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
            comment = batch.comments[k].decode("utf-8", "replace")  # a path need not be valid UTF-8
            yield Prediction(
                int(number), batch.labels[k].decode(), comment, batch.encoded[k], int(batch.widths[k]), read,
                float(got["probability"][k]), float(got["losses"][k]), got["attention"][k, :steps, :length],
                self._candidates(got["candidates"], k) if "candidates" in got else ())

    def _candidates(self, got, k):
        """Returns the Candidates of the k-th image, from the arrays of decoding.Candidates."""
        return tuple(Candidate(self.charset.decode(ids), float(by_attention), float(by_ctc))
                     for ids, by_attention, by_ctc in zip(got.ids[k], got.by_attention[k], got.by_ctc[k]))


def open_model(network: AnyNetwork, *, source: Source | None = None, decoding: Decoding, precision: str = "float32",
               session_config: tf.ConfigProto | None = None) -> Model:
    """Returns a Model in a new graph that reads the samples of a Source, or else encoded images."""
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        inputs = Examples(network, source) if source else EncodedImages(network)
        return Model(network, inputs, decoding=decoding, precision=precision, session_config=session_config)
