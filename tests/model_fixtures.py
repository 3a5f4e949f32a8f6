"""Fixtures around one small model overfitted to five drawn words."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw, ImageFont

from aocr.checkpoint import find_model
from aocr.cli import main


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
    assert main(["export", saved_model, "--model-dir", trained.model_dir, "--log-path", ""]) == 0
    assert main(["export", frozen, "--model-dir", trained.model_dir, "--format", "frozengraph", "--log-path", ""]) == 0
    with find_model(trained.model_dir, {}, False).open() as model:
        readings = model.predict([Path(path).read_bytes() for path in trained.images])
    return SimpleNamespace(directory=saved_model, frozen=os.path.join(frozen, "frozen_graph.pb"), images=trained.images,
                           texts=[text for text, _ in readings], probabilities=[value for _, value in readings])
