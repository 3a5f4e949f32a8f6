"""TFLite files give what the network gives, in LiteRT's interpreter."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.charset import Charset
from aocr.checkpoint import Description
from aocr.cli import main
from aocr.config import Decoding, ModelConfig
from aocr.graph.preprocess import PreparedImages
from aocr.network import Network

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra aocr[tflite] is not installed")

CHARSET = Charset("AÖ中")
WIDTHS = [1, 6, 47, 30]
CONFIG = ModelConfig(attn_num_hidden=7)


def images(config):
    """Returns striped images of WIDTHS in a batch that is wider than all of them."""
    pixels = np.zeros([len(WIDTHS), 32, 53, config.channels], np.float32)
    for k, width in enumerate(WIDTHS):
        stripes = np.random.RandomState(k).uniform(-1, 1, [4, -(-width // 8), config.channels])
        pixels[k, :, :width] = stripes.repeat(8, 0).repeat(8, 1)[:, :width]
    return dict(pixels=pixels, widths=np.array(WIDTHS, np.int32))


def file_of(network, config, quantize=None):
    """Returns the signature runner of a TFLite file with the weights of a Bench, and the file's size."""
    from aocr.exporting.tflite_file import tflite_model

    weights = {name: value.astype(np.float32) for name, value in network.weights.items()}
    content = tflite_model(Description(config, CHARSET, Decoding("ctc")), weights, quantize)
    return interpreter.Interpreter(model_content=content, num_threads=1).get_signature_runner(), len(content)


def network_of(bench, config):
    random = np.random.RandomState(3)
    depth = 2 * config.encoder_units
    output = 8 / np.sqrt(depth) * random.normal(size=[depth, len(CHARSET.characters) + 1])
    return bench(lambda pixels, widths: tf.nn.softmax(Network(config, CHARSET).build(
        PreparedImages(pixels, widths)).ctc_logits), images(config), {"ctc/output/kernel": output})


@pytest.mark.parametrize("config", [
    CONFIG, dataclasses.replace(CONFIG, cnn="fine", color=True, right_to_left=True, use_gru=True, attn_num_layers=2)],
    ids=["compact", "fine, colour, right to left, GRU"])
def test_it_gives_what_the_network_gives(bench, config):
    network, feed = network_of(bench, config), images(config)
    expected = network.run(**feed)
    read, _ = file_of(network, config)
    for k, width in enumerate(WIDTHS):
        length = -(-width // config.network.stride)
        for columns in (width, 53):  # as wide as the image, and padded
            got = read(pixels=feed["pixels"][k:k + 1, :, :columns], widths=feed["widths"][k:k + 1])
            assert got["lengths"].tolist() == [length]
            np.testing.assert_allclose(np.exp(got["log_probabilities"][0, :length]), expected[k, :length], atol=1e-5)
    assert expected[2:, :7].std(0).max() > 1e-3, "all images look alike"


def test_quantized_files_are_smaller_and_nearly_as_exact(bench):
    config = dataclasses.replace(CONFIG, attn_num_hidden=64)
    network, feed = network_of(bench, config), images(config)
    expected = network.run(**feed)[2, :12]
    sizes = {}
    for quantize, tolerance in ((None, 1e-5), ("float16", 0.02), ("dynamic", 0.2)):
        read, sizes[quantize] = file_of(network, config, quantize)
        got = read(pixels=feed["pixels"][2:3, :, :47], widths=feed["widths"][2:3])["log_probabilities"]
        difference = np.abs(np.exp(got[0]) - expected).max()
        assert difference < tolerance
        assert quantize is None or difference > 1e-6, "it was not quantized"
    assert sizes["float16"] < 0.6 * sizes[None] and sizes["dynamic"] < 0.4 * sizes[None]


def test_the_command_writes_the_file_and_its_description(trained, tmp_path, capsys):
    target = tmp_path / "exported"
    flags = ["export", str(target), "--model-dir", trained.model_dir, "--format", "tflite", "--log-path", ""]
    assert main([*flags, "--decoding", "attention"]) == 2
    assert "cannot hold decoding attention, by which this model reads; add --decoding ctc" in capsys.readouterr().err
    assert main([*flags, "--decoding", "ctc"]) == 0
    assert sorted(path.name for path in target.iterdir()) == ["description.json", "model.tflite"]
    description = json.loads((target / "description.json").read_text(encoding="utf-8"))
    assert description["decoding"]["method"] == "ctc"
    size = (target / "model.tflite").stat().st_size
    assert main([*flags, "--decoding", "ctc", "--quantize", "dynamic", "--force"]) == 0
    assert (target / "model.tflite").stat().st_size < 0.4 * size
