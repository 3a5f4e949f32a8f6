"""Characters of readings through the whole graph, on models with random weights."""

import numpy as np
import pytest
from test_model import SMALL, noise, shake

from aocr.charset import Charset
from aocr.config import ATTENTION, CTC, JOINT, Decoding, ModelConfig
from aocr.model import open_model
from aocr.network import Network

IMAGES = [noise(37, 32, 1), noise(1, 40, 2), noise(290, 61, 3), noise(86, 32, 5)]  # the third one is squeezed


def opened(method, charset="0123456789AB", temperature=1.0, **config):
    config = ModelConfig(max_width=153, max_height=32, **SMALL, **config)
    return open_model(Network(config, Charset(charset)), decoding=Decoding(method, 0.3), details=True,
                      temperature=temperature)


@pytest.mark.parametrize("method, charset, config", [
    (JOINT, "0123456789AB", {}), (CTC, "אבג", dict(right_to_left=True)), (ATTENTION, "0123456789AB", dict(ctc=False))])
def test_characters_of_a_reading(method, charset, config):
    with opened(method, charset, **config) as model:
        shake(model)
        readings = model.read_images(IMAGES, details=True)
        plain = model.read_images(IMAGES)
        alone = [model.read_images([image], details=True)[0] for image in IMAGES]
        nothing = model.session.run(model.details, {model.inputs.encoded: []})
        scalar = model.session.run(model.details, {model.inputs.encoded: IMAGES[0]})
    assert [reading._replace(characters=()) for reading in readings] == plain
    assert any(len(reading.text) > 1 for reading in readings)
    assert nothing.edges.shape[::2] == (0, 2) and scalar.edges.ndim == 2
    for reading, single in zip(readings, alone):
        assert "".join(character.text for character in reading.characters) == reading.text == single.text
        edges = [edge for character in reading.characters for edge in (character.left, character.right)]
        assert all(0.0 <= edge <= 1.0 for edge in edges)
        for character, by_itself in zip(reading.characters, single.characters):
            others = [alternative.probability for alternative in character.alternatives]
            assert len(others) == min(5, len(charset)) and others == sorted(others, reverse=True)
            assert sum(others) <= 1.0 + 1e-5 and character.left <= character.right
            if method == ATTENTION:  # greedy: each character is the best one after those before it
                assert character.alternatives[0].text == character.text
                assert character.confidence == character.alternatives[0].probability
            assert by_itself.confidence == pytest.approx(character.confidence, abs=1e-4)
            assert (by_itself.left, by_itself.right) == pytest.approx((character.left, character.right), abs=1e-3)


def test_the_attention_decoder_s_confidences_are_factors_of_the_text_s():
    """The text's confidence has one more factor, that of its end."""
    with opened(ATTENTION) as model:
        shake(model)
        for reading in model.read_images(IMAGES, details=True):
            product = np.prod([character.confidence for character in reading.characters])
            assert reading.confidence <= product * (1.0 + 1e-5)


def test_a_temperature_changes_neither_texts_nor_order():
    def read(temperature):
        with opened(JOINT, temperature=temperature) as model:
            shake(model)
            return model.read_images(IMAGES, details=True)

    for before, after in zip(read(1.0), read(2.0)):
        assert after.text == before.text
        assert after.confidence == pytest.approx(before.confidence ** 0.5, rel=1e-5)
        for one, other in zip(before.characters, after.characters):
            assert other.confidence == pytest.approx(one.confidence ** 0.5, rel=1e-4)
            assert [a.text for a in other.alternatives] == [a.text for a in one.alternatives]
