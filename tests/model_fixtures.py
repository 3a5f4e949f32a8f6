"""Fixtures around one small model overfitted to five drawn words."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image, ImageDraw, ImageFont

from aocr.charset import charset_for
from aocr.checkpoint import CHECKPOINT_PREFIX, Description, find_model, write_description
from aocr.cli import main
from aocr.config import ATTENTION, Decoding, ExportConfig, ModelConfig, ServeConfig
from aocr.model import open_model
from aocr.network import Network
from aocr.serving.server import Server
from aocr.serving.sources import Source
from aocr.tasks.export import export, target_of


def draw_word(text, size=24):
    """Draws a word in black on white, 32 pixels high: PIL image."""
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (right - left + 8, 32), 255)
    ImageDraw.Draw(image).text((4 - left, (32 - bottom + top) // 2 - top), text, fill=0, font=font)
    return image


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """Five drawn words, the last one wider than the default canvas: .annotations, .images (paths), .labels, .widths."""
    directory = tmp_path_factory.mktemp("words")
    labels = ["A1", "B27", "7", "K90", "WWMW"]
    images, widths = [], []
    for label in labels:
        image = draw_word(label)
        images.append(str(directory / f"{label}.png"))
        widths.append(image.width)
        image.save(images[-1])
    annotations = directory / "annotations.txt"
    annotations.write_text("".join(f"{image} {label}\n" for image, label in zip(images, labels)))
    return SimpleNamespace(annotations=str(annotations), images=images, labels=labels, widths=widths)


@pytest.fixture(scope="session")
def dataset(words, tmp_path_factory):
    """Path of a dataset of the words, file names included."""
    path = str(tmp_path_factory.mktemp("dataset") / "words.tfrecords")
    assert main(["dataset", words.annotations, path, "--save-filename", "--log-path", ""]) == 0
    return path


@pytest.fixture(scope="session")
def trained(words, dataset, tmp_path_factory):
    """A small model overfitted to the words: .model_dir, .dataset, and the attributes of `words`."""
    model_dir = str(tmp_path_factory.mktemp("trained") / "model")
    assert main(["train", dataset, "--model-dir", model_dir, "--attn-num-hidden", "64", "--batch-size", "5",
                 "--max-steps", "130", "--log-path", ""]) == 0
    return SimpleNamespace(model_dir=model_dir, dataset=dataset, **vars(words))


@pytest.fixture(scope="session")
def exported_model(trained, tmp_path_factory):
    """The trained model exported both ways: .directory, .frozen, .images, and the checkpoint's readings of them."""
    directory = str(tmp_path_factory.mktemp("exported"))
    saved_model, frozen = os.path.join(directory, "saved"), os.path.join(directory, "frozen")
    flags = ["--model-dir", trained.model_dir, "--no-verify", "--log-path", ""]  # test_export.py verifies
    assert main(["export", saved_model, *flags]) == 0
    assert main(["export", frozen, "--format", "frozengraph", *flags]) == 0
    with find_model(trained.model_dir, {}, False).open() as model:
        readings = model.predict([Path(path).read_bytes() for path in trained.images])
    return SimpleNamespace(directory=saved_model, frozen=os.path.join(frozen, "frozen_graph.pb"), images=trained.images,
                           texts=[text for text, _ in readings], probabilities=[value for _, value in readings])


@pytest.fixture(scope="session")
def tiny(words, tmp_path_factory):
    """A model with drawn weights: .model_dir (checkpoint 3), .export and .frozen (its exports), .images (files of the
    words), and .readings, what the checkpoint reads of them."""
    directory = tmp_path_factory.mktemp("tiny")
    model_dir = str(directory / "model")
    write_tiny_model(model_dir)
    exports = dict(savedmodel=str(directory / "saved"), frozengraph=str(directory / "frozen"))
    images = [Path(path).read_bytes() for path in words.images]
    with find_model(model_dir, {}).open(details=True) as model:
        readings = model.predict(images)
        for form, path in exports.items():
            config = ExportConfig(format=form, verification=False)
            export(model, target_of(path, config), config)
    return SimpleNamespace(model_dir=model_dir, export=exports["savedmodel"], frozen=exports["frozengraph"],
                           images=images, readings=readings)


@pytest.fixture(scope="session")
def tiny_server(tiny):
    """`aocr serve` with the tiny model's export, in this process: a serving.server.Server."""
    with Server(Source(tiny.export, ServeConfig(port=0), None), ServeConfig(port=0, drain_seconds=0.0)) as server:
        yield server


def write_tiny_model(model_dir):
    """Writes a model directory with one checkpoint, whose weights are drawn: it reads texts that differ."""
    config = ModelConfig(attn_num_hidden=8, max_width=70, max_height=40, max_prediction=5, attention_units=8)
    with open_model(Network(config, charset_for("0123456789ABCDEFGHIJ")), decoding=Decoding(ATTENTION)) as model:
        model.initialize()
        random = np.random.RandomState(1)
        model.load({name: value + random.normal(scale=0.5, size=value.shape).astype(value.dtype)
                    for name, value in model.values().items()
                    if value.dtype == np.float32 and not name.endswith("variance")})
        os.makedirs(model_dir, exist_ok=True)
        write_description(model_dir, Description(config, model.charset, Decoding(ATTENTION)))
        with model.graph.as_default():
            saver = tf.train.Saver(model.variables, save_relative_paths=True)
            saver.save(model.session, os.path.join(model_dir, CHECKPOINT_PREFIX), 3, write_meta_graph=False)
