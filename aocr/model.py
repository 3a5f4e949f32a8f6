"""The model: a network on its inputs, with its session and its weights."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.calibration import UNCALIBRATED, calibrated
from aocr.charset import EOS_ID
from aocr.config import Decoding
from aocr.data.pipeline import Source
from aocr.graph import losses, text
from aocr.graph.decoder import TeacherForcing
from aocr.graph.decoding import transcribe
from aocr.graph.details import Details, describe
from aocr.graph.searching import transcribe_by_search
from aocr.inputs import EncodedImages, Examples
from aocr.network import AnyNetwork, Branches
from aocr.prediction import Alternative, Candidate, Character, Hypothesis, Prediction, Reading
from aocr.search.search import Search
from aocr.weights import check_fit

PREDICTION_NAME, PROBABILITY_NAME = "prediction", "probability"
DETAIL_NAMES = Details("characters", "character_confidences", "character_edges", "alternatives",  # type: ignore[arg-type]
                       "alternative_probabilities")  # of the tensors of `Model.details`
STATE_VARIABLE = "training/state"  # a run's own state, saved together with the weights


class Hypotheses(NamedTuple):
    """The n best texts, best first, in the shape of the inputs and one dimension more: B."""

    texts: tf.Tensor  # [N, B] string (UTF-8); empty where there are fewer texts
    probabilities: tf.Tensor  # [N, B] float64 in [0, 1]; 0 where there are fewer texts


class Model:
    """A network on images, with its tf.Graph and tf.Session: restores and returns weights, and reads.

    With EncodedImages it reads images that a caller feeds (`predict`, export), with Examples a dataset (`read`).
    """

    def __init__(self, network: AnyNetwork, inputs: EncodedImages | Examples, *, decoding: Decoding | None = None,
                 search: Search | None = None, details: bool = False, temperature: float = UNCALIBRATED,
                 branches: Branches | None = None, precision: str = "float32", target: str = "",
                 session_config: tf.ConfigProto | None = None):
        """Must be called in the graph of the inputs; the session sees ops that are added later.

        Args:
          decoding: how to read; None: build no ops for reading.
          search: the beam and the texts that may be read; None: greedily, any text.
          details: also build the ops that describe each character that is read: `details`.
          temperature: of all probabilities: see aocr/calibration.py.
          branches: of the network on these inputs, if it is built already.
          precision: number format of the convolutions.
          target, session_config: as of tf.Session.
        """
        self.network, self.inputs, self.graph = network, inputs, tf.get_default_graph()
        self.config, self.charset, self.decoding = network.config, network.charset, decoding
        self.temperature = temperature
        self.branches = branches or network.build(inputs.images, dtype=tf.as_dtype(precision))
        if decoding:
            self._add_prediction(decoding, search or Search(), temperature)
            if details:
                self._add_details(decoding, temperature)
            if inputs.batch:
                self._add_losses()
        self._target, self.session_config = target, session_config
        self.connect()

    def connect(self) -> None:
        """Opens a session. A cluster's weights persist; others must be initialized or restored again."""
        self.session = tf.Session(self._target, graph=self.graph, config=self.session_config)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self.session.close()

    # ---- the graph

    details: Details | None = None  # if it is built for them

    def _add_prediction(self, decoding, search, temperature):
        """Sets `reading` (decoding.Transcription), and what was read: `texts` and `probabilities`, [N], `prediction`
        and `probability`, in the shape of the inputs, and `hypotheses`, None unless the n best texts are asked for.
        """
        decoder, ctc_logits, lengths = self.branches[:3]
        read = transcribe if search.greedy else functools.partial(transcribe_by_search, search)
        self.reading = read(decoding, decoder, ctc_logits, lengths, self.network.decoder_steps)
        shape, count = self.inputs.shape, self.inputs.count
        self.texts = tf.identity(text.ids_to_text(self.reading.ids, self.charset)[:count], "texts")
        probability = calibrated(self.reading.probability, temperature)
        self.probabilities = tf.identity(probability[:count], "probabilities")
        self.prediction = tf.reshape(self.texts, shape, name=PREDICTION_NAME)
        self.probability = tf.reshape(self.probabilities, shape, name=PROBABILITY_NAME)
        self.hypotheses = self._hypotheses(search.n_best, temperature) if search.n_best else None

    def _hypotheses(self, best, temperature):
        """Returns the Hypotheses of the images, as many as `best`; those of a greedy reading are itself."""
        found, shape, count = self.reading.hypotheses, tf.concat([self.inputs.shape, [best]], 0), self.inputs.count
        if not found:
            return Hypotheses(tf.reshape(self.prediction, shape), tf.reshape(self.probability, shape))
        rows = tf.reshape(found.ids, [-1, tf.shape(found.ids)[2]])  # [N * B, T]
        texts = text.ids_to_text(rows, self.charset)
        return Hypotheses(tf.reshape(texts[:count * best], shape),
                          tf.reshape(calibrated(found.probabilities[:count], temperature), shape))

    def _add_details(self, decoding, temperature):
        """Sets `details`: N is the shape of the inputs."""
        decoder, ctc_logits, lengths = self.branches[:3]
        encoded = self.inputs.encoded if self.inputs.batch is None else self.inputs.batch.encoded
        images = self.network.as_drawn(self.inputs.images, tf.reshape(encoded, [-1]))
        found = describe(self.reading.ids, decoder, ctc_logits, lengths, images, decoding=decoding,
                         charset=self.charset, stride=self.config.network.stride,
                         right_to_left=self.config.right_to_left, temperature=temperature)
        shape, count = self.inputs.shape, self.inputs.count
        self.details = Details(*(tf.reshape(part[:count], tf.concat([shape, tf.shape(part)[1:]], 0), name=name)
                                 for part, name in zip(found, DETAIL_NAMES)))

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

    def attention(self, encoded: bytes) -> np.ndarray:
        """Returns where the decoder looked while it read an encoded image: [steps, S], as of Prediction.

        Raises: as `predict`.
        """
        ids, attention = self.session.run([self.reading.ids, self.reading.attention], {self.inputs.encoded: [encoded]})
        return attention[0, :_steps(ids[0])]

    def read_images(self, encoded: Sequence[bytes], *, details: bool = False) -> list[Reading]:
        """Reads encoded images.

        `details`: with their characters; the model must be built for them.
        Raises: tf.errors.InvalidArgumentError if one of them cannot be decoded.
        """
        fetches = dict(texts=self.prediction, probabilities=self.probability)
        if details:
            assert self.details is not None, "open the model with details=True"
            fetches["details"] = self.details
        if self.hypotheses:
            fetches["hypotheses"] = self.hypotheses
        got = self.session.run(fetches, {self.inputs.encoded: list(encoded)})
        return [Reading(read.decode(), float(got["probabilities"][k]),
                        characters_of(got["details"], k) if details else (),
                        hypotheses_of(got["hypotheses"], k) if self.hypotheses else ())
                for k, read in enumerate(got["texts"])]

    def read(self) -> Iterator[Prediction]:
        """Reads the dataset; yields a Prediction of each sample, in the order of the batches."""
        inputs = self.inputs
        assert isinstance(inputs, Examples)
        inputs.start(self.session)
        fetches = dict(batch=inputs.batch._replace(pixels=()), text=self.prediction, probability=self.probability,
                       losses=self.sample_losses, attention=self.reading.attention, ids=self.reading.ids)
        if self.details:
            fetches["details"] = self.details
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
            steps = _steps(got["ids"][k])
            length = -(-int(batch.widths[k]) // self.config.network.stride)
            comment = batch.comments[k].decode("utf-8", "replace")  # a path need not be valid UTF-8
            yield Prediction(
                int(number), batch.labels[k].decode(), comment, batch.encoded[k], int(batch.widths[k]), read,
                float(got["probability"][k]), float(got["losses"][k]), got["attention"][k, :steps, :length],
                self._candidates(got["candidates"], k) if "candidates" in got else (),
                characters_of(got["details"], k) if "details" in got else ())

    def _candidates(self, got, k):
        """Returns the Candidates of the k-th image, from the arrays of decoding.Candidates."""
        return tuple(Candidate(self.charset.decode(ids), float(by_attention), float(by_ctc))
                     for ids, by_attention, by_ctc in zip(got.ids[k], got.by_attention[k], got.by_ctc[k]))


def _steps(ids):
    """Returns the number of steps of a text with these ids ([T]): its characters and EOS."""
    ends = np.flatnonzero(ids == EOS_ID)
    return ends[0] + 1 if len(ends) else len(ids)


def characters_of(got: Details, k: int) -> tuple[Character, ...]:
    """Returns the Characters of the k-th image, from the arrays of Details."""
    return tuple(
        Character(text.decode(), float(confidence),
                  tuple(Alternative(other.decode(), float(p)) for other, p in zip(others, probabilities)),
                  float(left), float(right))
        for text, confidence, (left, right), others, probabilities in zip(*(part[k] for part in got)) if text)


def hypotheses_of(got: Hypotheses, k: int) -> tuple[Hypothesis, ...]:
    """Returns the Hypothesis of each text of the k-th image, from the arrays of Hypotheses; the best one always."""
    found = [Hypothesis(text.decode(), float(p)) for text, p in zip(got.texts[k], got.probabilities[k])]
    return (*found[:1], *(other for other in found[1:] if other.confidence > 0.0))


def open_model(network: AnyNetwork, *, source: Source | None = None, decoding: Decoding, search: Search | None = None,
               details: bool = False, temperature: float = UNCALIBRATED, precision: str = "float32",
               session_config: tf.ConfigProto | None = None) -> Model:
    """Returns a Model in a new graph that reads the samples of a Source, or else encoded images; the rest as of Model.
    """
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        inputs = Examples(network, source) if source else EncodedImages(network)
        return Model(network, inputs, decoding=decoding, search=search, details=details, temperature=temperature,
                     precision=precision, session_config=session_config)
