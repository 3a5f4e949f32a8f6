"""ONNX files give what the network gives; the reader in docs/ needs no TensorFlow and reads what `predict` reads."""

import dataclasses
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.charset import EOS_ID, Charset
from aocr.checkpoint import Description, find_model
from aocr.cli import main
from aocr.config import Decoding, ModelConfig
from aocr.errors import UserError
from aocr.graph.ctc import best_texts
from aocr.graph.preprocess import PreparedImages
from aocr.model import open_model
from aocr.network import Network

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra aocr[onnx] is not installed")
onnx = pytest.importorskip("onnx", reason="the extra aocr[onnx] is not installed")

READER = Path(__file__).parent.parent / "docs" / "onnx_reader.py"
CHARACTERS = ["A", "b", "e\u0301", "ش", "中"]  # a cluster among them
CHARSET = Charset(CHARACTERS, graphemes=True)
WIDTHS = [1, 2, 5, 30, 47, 64]
CONFIGS = {
    "compact": ModelConfig(attn_num_hidden=7, attention_units=5, max_prediction=6),
    "colour, right to left, GRU": ModelConfig(color=True, right_to_left=True, use_gru=True, attn_num_hidden=6,
                                              attn_num_layers=2, attention_units=0, max_prediction=5),
    "fine, three layers": ModelConfig(cnn="fine", attn_num_hidden=5, attn_num_layers=3, max_prediction=4),
    "original": ModelConfig(cnn="original", attn_num_hidden=9, max_prediction=3),
}


def noise(config):
    """Returns images of WIDTHS, stripes that the convolutions keep apart, in a batch that is wider than all of them."""
    pixels = np.zeros([len(WIDTHS), 32, 67, config.channels], np.float32)
    for k, width in enumerate(WIDTHS):
        stripes = np.random.RandomState(k).uniform(-1, 1, [4, -(-width // 8), config.channels])
        pixels[k, :, :width] = stripes.repeat(8, 0).repeat(8, 1)[:, :width]
    return dict(pixels=pixels, widths=np.array(WIDTHS, np.int32))


@pytest.fixture(params=CONFIGS)
def twins(request, bench):
    """A network with drawn weights, some of whose texts end early: (config, weights, images, its results)."""
    config = CONFIGS[request.param]
    images = noise(config)

    def build(pixels, widths):
        branches = Network(config, CHARSET).build(PreparedImages(pixels, widths))
        greedy = branches.decoder.decode(config.max_prediction + 1)
        return dict(classes=tf.nn.softmax(branches.ctc_logits), lengths=branches.lengths, ids=greedy.ids,
                    likely=tf.reduce_max(tf.nn.softmax(greedy.logits), 2))

    network = bench(build, images, loud(config))
    return config, in_float32(network), images, network.run(**images)


def loud(config):
    """Returns large weights of the encoder and of what follows it, which make differing images differ."""
    random, gates = np.random.RandomState(9), {"gates/": 2, "candidate/": 1} if config.use_gru else {"": 4}
    units, attention = config.encoder_units, config.attention_units or 2 * config.encoder_units
    sizes = {f"encoder/{direction}/{gate}kernel": (config.network.features + units, factor * units)
             for direction in ("forward", "backward") for gate, factor in gates.items()}
    sizes.update({"ctc/output/kernel": (2 * units, len(CHARACTERS) + 1), "decoder/attention/v": (attention, 1),
                  "decoder/embedding": (len(CHARSET), config.target_embedding_size),
                  "decoder/output/kernel": (config.attn_num_hidden + 2 * units, len(CHARSET))})
    return {name: random.normal(size=size) * 8 / np.sqrt(size[0]) for name, size in sizes.items()}


def in_float32(network):
    return {name: value.astype(np.float32) for name, value in network.weights.items()}


def session_of(config, weights, method):
    from aocr.exporting.onnx_file import onnx_model

    description = Description(dataclasses.replace(config, graphemes=True), CHARSET, Decoding(method))
    model = onnx_model(description, weights)
    assert {node.domain for node in model.graph.node} == {""}, "an operator that is not of the standard"
    (entry,) = model.metadata_props
    assert Description.from_json(entry.value, entry.key) == description
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_it_gives_what_the_network_gives(twins):
    check_ctc(*twins)
    check_attention(*twins)


def check_ctc(config, weights, images, expected):
    session = session_of(config, weights, "ctc")
    got, lengths = session.run(["log_probabilities", "lengths"], images)
    assert lengths.dtype == np.int32 and lengths.tolist() == expected["lengths"].tolist()
    for k, length in enumerate(lengths):
        np.testing.assert_allclose(np.exp(got[k, :length]), expected["classes"][k, :length], atol=1e-5)
        width = WIDTHS[k]  # alone, it is read as in the batch
        alone, = session.run(["log_probabilities"], dict(pixels=images["pixels"][k:k + 1, :, :width],
                                                         widths=[width]))
        np.testing.assert_allclose(np.exp(alone[0]), expected["classes"][k, :length], atol=1e-5)
    assert expected["classes"][3:, :4].std(0).max() > 1e-3, "all images look alike"


def check_attention(config, weights, images, expected):
    ids, probabilities = session_of(config, weights, "attention").run(["ids", "probabilities"], images)
    assert ids.dtype == np.int32 and ids.shape == expected["ids"].shape
    ends = [(row.tolist() + [EOS_ID]).index(EOS_ID) + 1 for row in expected["ids"]]
    for k, end in enumerate(ends):
        assert ids[k, :end].tolist() == expected["ids"][k, :end].tolist()
        assert not ids[k, end:].any() and (probabilities[k, end:] == 1).all()
        np.testing.assert_allclose(probabilities[k, :end], expected["likely"][k, :end], atol=1e-5)
    assert expected["likely"].std(0).max() > 1e-3, "all images look alike"
    assert len(np.unique(ids)) > 1, "no character depends on the one before"


def test_the_loop_ends_when_all_images_have_ended(bench):
    config = CONFIGS["compact"]
    images = noise(config)
    eos = np.eye(1, len(CHARSET), EOS_ID)[0] * 1000
    network = bench(lambda pixels, widths: Network(config, CHARSET).build(PreparedImages(pixels, widths)).lengths,
                    images, {"decoder/output/bias": eos})
    ids, probabilities = session_of(config, in_float32(network), "attention").run(None, images)
    assert ids.tolist() == [[EOS_ID]] * len(WIDTHS) and (probabilities == 1).all()


# ---- the reader in docs/

@pytest.fixture(scope="module")
def reader():
    """The module docs/onnx_reader.py."""
    spec = importlib.util.spec_from_file_location("onnx_reader", READER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_beam_search_in_the_reader_is_tensorflows(reader):
    random = np.random.RandomState(7)
    logits = random.normal(size=[40, 9, 5]).astype(np.float32) * random.uniform(0.3, 6, [40, 1, 1]).astype(np.float32)
    logits -= np.log(np.exp(logits).sum(2, keepdims=True))
    with tf.Graph().as_default(), tf.Session() as session:
        texts = session.run(best_texts(tf.constant(logits), tf.fill([40], 9), beam=8, count=1))
    for k in range(40):
        text, log_probability = reader.best_by_ctc(logits[k])
        assert list(text) == [i - 3 for i in texts.ids[k, 0] if i], k
        assert log_probability == pytest.approx(texts.log_probabilities[k, 0], abs=1e-4)


def pictures():
    """Returns images of several sizes and kinds, as (PIL image, PNG file)."""
    random = np.random.RandomState(5)
    found = []
    for mode, size in [("L", (71, 32)), ("RGB", (1, 1)), ("RGBA", (53, 19)), ("LA", (97, 81)), ("1", (33, 64)),
                       ("P", (300, 40)), ("RGB", (211, 117))]:
        image = Image.fromarray(random.randint(0, 256, (size[1], size[0], 4), np.uint8)).convert(mode)
        file = io.BytesIO()
        image.save(file, "PNG")
        found.append((image, file.getvalue()))
    return found


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig(color=True, background="#3090f0")],
                         ids=["grey", "colour"])
def test_the_reader_prepares_images_as_the_network_does(reader, bench, config):
    network = Network(config, CHARSET)
    images, files = zip(*pictures())
    prepare = bench(lambda file: network.prepare_image(file).pixels, dict(file=np.array(files[0], object)))
    for image, file in zip(images, files):
        got = reader.prepare(image, config.canvas_width, config.channels, config.background)
        expected = prepare.run(file=file)
        assert got.shape == expected.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-4)
    with pytest.raises(ValueError, match="8 bits"):
        reader.prepare(Image.fromarray(np.zeros((5, 5), np.uint16)), 86, 1, "#ffffff")


@pytest.mark.parametrize("method", ["ctc", "attention"])
def test_the_reader_reads_what_predict_reads(trained, tmp_path, method):
    """In a process of its own, without TensorFlow."""
    target = tmp_path / "exported"
    assert main(["export", str(target), "--model-dir", trained.model_dir, "--format", "onnx", "--decoding", method,
                 "--log-path", ""]) == 0
    assert [path.name for path in target.iterdir()] == ["model.onnx"]
    (entry,) = onnx.load(target / "model.onnx").metadata_props
    assert json.loads(entry.value)["decoding"]["method"] == method
    paths = [Path(path) for path in trained.images]
    for k, (width, height) in enumerate([(60, 20), (301, 97), (44, 50)]):
        paths.append(tmp_path / f"{k}.png")
        with Image.open(trained.images[k]) as image:
            image.resize((width, height)).save(paths[-1])
    with find_model(trained.model_dir, {}, decoding=method).open() as model:
        expected = model.predict([path.read_bytes() for path in paths])
    code = (f"import runpy, sys; runpy.run_path({str(READER)!r}, run_name='__main__'); "
            "assert not {'tensorflow', 'aocr'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(target / "model.onnx"), *map(str, paths)],
                          capture_output=True, text=True, encoding="utf-8", env={"PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [[str(path), text] for path, (text, _) in zip(paths, expected)]
    assert [float(row[2]) for row in rows] == pytest.approx([value for _, value in expected], abs=1e-4)


# ---- the command

def test_a_format_names_the_decodings_that_it_can_hold(trained, tmp_path, capsys):
    flags = ["--model-dir", trained.model_dir, "--log-path", ""]
    assert main(["export", str(tmp_path / "x"), "--format", "onnx", "--decoding", "joint", *flags]) == 2
    assert "add --decoding attention or --decoding ctc" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "x"), "--format", "onnx", "--quantize", "float16", *flags]) == 2
    assert "--quantize float16 needs --format tflite, not onnx" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_force_replaces_an_onnx_file_of_ours_only(trained, tmp_path, capsys):
    flags = ["--model-dir", trained.model_dir, "--format", "onnx", "--decoding", "ctc", "--force", "--log-path", ""]
    (tmp_path / "model.onnx").write_bytes(b"of another program")
    assert main(["export", str(tmp_path), *flags]) == 1
    assert "model.onnx is none of its files" in capsys.readouterr().err
    (tmp_path / "model.onnx").write_bytes(b"")
    assert main(["export", str(tmp_path), "--no-verify", *flags]) == 0
    before = (tmp_path / "model.onnx").read_bytes()
    assert main(["export", str(tmp_path), *flags]) == 0
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_other_readings_fail_the_verification():
    """A file of other weights, in place of the model's own."""
    from aocr.exporting import parity

    with open_model(Network(CONFIGS["compact"], CHARSET), decoding=Decoding("ctc")) as model:
        model.initialize()
        weights = model.values()
        weights["ctc/output/bias"] = weights["ctc/output/bias"] + np.linspace(0, 1e-2, 6, dtype=np.float32)
        for tried, ours in ((model.values(), True), (weights, False)):
            session = session_of(model.config, tried, "ctc")

            def run(pixels, widths, session=session):
                return parity.read_by_ctc(model, *session.run(None, {"pixels": pixels, "widths": widths}))

            if ours:
                parity.verify(model, run)
            else:
                parity.verify(model, run, tolerance=None)
                with pytest.raises(UserError, match=r"of 6 images .* differ by up to .*limit is 0.0001"):
                    parity.verify(model, run)
