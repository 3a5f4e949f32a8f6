"""The whole graph: readings do not depend on the batch, training and reading agree, every variable learns."""

import io
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.charset import ALPHANUMERIC, Charset
from aocr.config import ATTENTION, CTC, JOINT, Decoding, ModelConfig, TrainConfig
from aocr.data.pipeline import Source
from aocr.data.scanning import DatasetStatistics
from aocr.inputs import Examples
from aocr.model import open_model
from aocr.network import Network
from aocr.training.graph import open_training_graph
from aocr.training.statistics import Sample, Statistics, sample_size
from aocr.weights import read_weights

SMALL = dict(attn_num_hidden=11, target_embedding_size=5)
SETTLED = dict(ctc_weight=0.3)  # would follow from the data otherwise
CHARSET = Charset(ALPHANUMERIC)


def learner(config, training, path, batch_size):
    """Opens a TrainingGraph over a dataset."""
    return open_training_graph(Network(config, CHARSET), source_of(path, batch_size), training)


def save(graph, directory):
    """Writes a checkpoint of a TrainingGraph and returns its path."""
    with graph.model.graph.as_default():
        return tf.train.Saver().save(graph.session, str(directory / "model"))


def noise(width, height, seed):
    """Returns an encoded image of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def shake(model, seed=4):
    """Initializes the weights, with no statistic, bias or scale of 0 or 1."""
    model.initialize()
    random = np.random.default_rng(seed)
    with model.graph.as_default():
        for variable in tf.global_variables():
            if variable.shape.rank == 1:
                variable.load(random.uniform(0.2, 1.2, variable.shape.as_list()), model.session)


def source_of(path, batch_size):
    """Returns the Source of a dataset."""
    return Source(DatasetStatistics(path, [path], [0]), batch_size)


@pytest.mark.parametrize("use_gru, method", [(False, JOINT), (True, JOINT), (False, CTC), (False, ATTENTION)])
def test_logits_do_not_depend_on_the_batch(use_gru, method):
    images = [noise(37, 32, 1), noise(3, 40, 2), noise(290, 61, 3), noise(5, 5, 4), noise(86, 32, 5)]
    config = ModelConfig(max_width=153, max_height=32, use_gru=use_gru, **SMALL)
    with open_model(Network(config, CHARSET), decoding=Decoding(method)) as model:
        shake(model)
        decoder, by_ctc, *_ = model.branches
        with model.graph.as_default():
            written = decoder.decode(model.network.decoder_steps).logits
        fetches = [written, by_ctc, model.prediction, model.probability]
        logits, classes, texts, probabilities = model.session.run(fetches, {model.inputs.encoded: images})
        for k, image in enumerate(images):
            alone, alone_classes, text, probability = model.session.run(fetches, {model.inputs.encoded: [image]})
            steps = min(alone.shape[1], logits.shape[1])
            np.testing.assert_allclose(alone[0, :steps], logits[k, :steps], atol=1e-4)
            np.testing.assert_allclose(alone_classes[0], classes[k, :alone_classes.shape[1]], atol=1e-4)
            assert text[0] == texts[k]
            assert probability[0] == pytest.approx(probabilities[k], abs=1e-6)
        assert np.ptp(logits[:, 0], axis=0).max() > 1e-2  # the model does distinguish the images


def test_the_answer_has_the_shape_of_the_question():
    with open_model(Network(ModelConfig(**SMALL), CHARSET), decoding=Decoding(ATTENTION)) as model:
        model.initialize()
        image = noise(9, 7, 1)
        for value, shape in [(image, ()), ([image], (1,)), ([], (0,)), ([[image] * 3] * 2, (2, 3))]:
            text, probability = model.session.run([model.prediction, model.probability], {model.inputs.encoded: value})
            assert np.shape(text) == np.shape(probability) == shape
            assert probability.dtype == np.float64


def test_training_and_reading_agree(dataset, tmp_path):
    """Without dropout, with learning rate 0 and the batch's own statistics, both graphs give the same loss."""
    config = ModelConfig(max_width=200, **SMALL)
    training = TrainConfig(initial_learning_rate=0.0, batch_size=5, dropout=0.0, **SETTLED)
    with learner(config, training, dataset, 5) as graph:
        graph.initialize()
        step, = graph.train(0)
        graph.estimate_statistics(5)
        saved = save(graph, tmp_path)
    with open_model(Network(config, CHARSET), source=source_of(dataset, 2),
                    decoding=Decoding(ATTENTION)) as model:
        model.take(read_weights(saved), saved)
        readings = list(model.read())
    assert len(readings) == len(step.numbers) == 5
    assert np.mean([reading.loss for reading in readings]) == pytest.approx(step.attention_loss, abs=1e-4)


def test_a_step_of_several_batches_tells_of_all_of_them(dataset):
    config = ModelConfig(max_width=200, **SMALL)
    training = TrainConfig(batch_size=2, accumulate=2, **SETTLED)
    with learner(config, training, dataset, 2) as graph:
        graph.initialize()
        step = next(iter(graph.train(0)))
        examples = graph.model.inputs
        examples.start(graph.session)
        expected = [number for _ in range(2) for number in graph.session.run(examples.batch.numbers)]
    assert list(step.numbers) == expected and len(set(expected)) == len(expected) < 5


def test_statistics_of_batches_are_those_of_all_their_images():
    images = np.random.default_rng(8).normal(size=(5, 32, 12, 1)).astype(np.float32)
    widths = np.full(5, 12, np.int32)
    config = ModelConfig(**SMALL)
    with learner(config, TrainConfig(**SETTLED), os.devnull, 5) as graph:
        graph.initialize()
        with graph.model.graph.as_default():
            statistics = Statistics(graph.model.inputs.images, graph.moments)
        # Only the first layer's input does not depend on the batching: later layers see it normalised by the batch.
        first = graph.moments[0].population_mean, graph.moments[0].population_variance
        statistics.estimate(graph.session, [(images, widths)])
        whole = graph.session.run(first)
        statistics.estimate(graph.session, [(images[:2], widths[:2]), (images[2:], widths[2:])])
        parts = graph.session.run(first)
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-5)
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-5)
    assert np.ptp(whole[0]) > 0.01


def test_the_sample_is_the_beginning_of_a_pass_and_always_the_same(dataset):
    config = ModelConfig(max_width=200, **SMALL)
    with tf.Graph().as_default(), tf.Session() as session:
        examples = Examples(Network(config, CHARSET), source_of(dataset, 2), shuffled=True)
        sample = Sample(examples, epoch=3)
        counts = [[len(widths) for _, widths in sample.take(session, images)] for images in (1, 4, 5, 99)]
        again = Sample(examples, epoch=3).take(session, 99)
        for (pixels, widths), (same_pixels, same_widths) in zip(sample.take(session, 99), again):
            np.testing.assert_array_equal(pixels, same_pixels)
            np.testing.assert_array_equal(widths, same_widths)
    assert sum(counts[-1]) == 5 and counts[-1] == counts[-2]
    assert all(few == counts[-1][:len(few)] for few in counts) and len(counts[0]) == 1 and sum(counts[1]) >= 4


def test_the_size_of_the_sample():
    """It depends on the number of pixel columns, within limits."""
    assert [sample_size(images, width) for images, width in ((7, 86.0), (9999, 86.0), (9999, 300.0), (9999, 2000.0))] \
        == [7, 512, 218, 130]


@pytest.mark.parametrize("options", [dict(), dict(use_gru=True, attn_num_layers=1), dict(attn_num_layers=3)])
def test_every_variable_learns(dataset, options):
    config = ModelConfig(max_width=200, **SMALL, **options)
    training = TrainConfig(batch_size=5, **SETTLED)
    with learner(config, training, dataset, 5) as graph:
        graph.initialize()
        with graph.model.graph.as_default():
            variables = tf.trainable_variables()
        before = graph.session.run(variables)
        steps = [step.step for step in graph.train(epochs=2)]  # some gradients are 0 at the very first step
        assert steps == [1, 2]
        assert graph.step() == 2
        after = graph.session.run(variables)
    still = [v.name for v, a, b in zip(variables, before, after) if np.array_equal(a, b)]
    assert not still
    cells = [v.name for v in variables if "decoder/layer" in v.name and v.name.endswith("kernel:0")]
    assert len(cells) == config.attn_num_layers * (2 if config.use_gru else 1)


@pytest.mark.parametrize("training", [None, TrainConfig(**SETTLED)])
def test_the_graph_does_not_grow_with_width_or_length(training, count_nodes):
    counts = []
    for sizes in ({}, dict(max_width=2000, max_height=32, max_prediction=200)):
        config = ModelConfig(**SMALL, **sizes)
        if training:
            model = learner(config, training, os.devnull, 3).model
        else:
            model = open_model(Network(config, CHARSET), decoding=Decoding(JOINT))
        with model:
            counts.append(count_nodes(model.graph))
    assert counts[0] == counts[1]


def test_the_same_seed_is_the_same_start(dataset):
    config = ModelConfig(max_width=200, **SMALL)
    losses = []
    for seed in (3, 3, 4):
        training = TrainConfig(batch_size=5, seed=seed, **SETTLED)
        with learner(config, training, dataset, 5) as graph:
            graph.initialize()
            losses.append(next(iter(graph.train(0))).loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert abs(losses[2] - losses[0]) > 1e-4
