"""Exports: what their graphs hold and answer, the proof of it, and what TensorFlow Serving finds beside them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from helpers import printed
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from aocr.checkpoint import find_model
from aocr.cli import main
from aocr.config import ExportConfig
from aocr.errors import UserError
from aocr.exporting import formats, placing, verification, versions, warm_up
from aocr.exporting.freezing import fold_batch_norm
from aocr.exporting.verification import difference
from aocr.exports import read_export_description, version_of
from aocr.graph.layers import BATCH_NORM_EPSILON
from aocr.tasks import export

NOT_CORE = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


def export_to(directory, trained, *flags):
    return main(["export", str(directory), "--model-dir", trained.model_dir, "--log-path", "", *flags])


@pytest.fixture(scope="module")
def served(exported_model):
    """Returns a function (signature, inputs by name) that gives the outputs of the exported model by name."""
    session = tf.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.saved_model.load(session, ["serve"], exported_model.directory).signature_def

    def answer(signature, **inputs):
        tensors = loaded[signature]
        return session.run({name: tensor.name for name, tensor in tensors.outputs.items()},
                           {tensors.inputs[name].name: value for name, value in inputs.items()})

    answer.session, answer.signatures = session, loaded
    yield answer
    session.close()


@pytest.fixture(scope="module")
def prepared(exported_model, served):
    """Pixels and widths of the exported model's images, as the graph prepares them."""
    encoded = [Path(path).read_bytes() for path in exported_model.images]
    return served.session.run(["prepared_pixels:0", "prepared_widths:0"], {"input_image_as_bytes:0": encoded})


# ---- signatures

def shapes(tensors):
    return {name: (None if tensor.tensor_shape.unknown_rank else [size.size for size in tensor.tensor_shape.dim],
                   tf.as_dtype(tensor.dtype).name) for name, tensor in tensors.items()}


def test_signatures_have_types_and_shapes(served):
    default, pixels = served.signatures["serving_default"], served.signatures["serving_pixels"]
    assert shapes(default.inputs) == {"input": (None, "string")}
    assert shapes(default.outputs) == {"output": (None, "string"), "probability": (None, "float64")}
    assert shapes(pixels.inputs) == {"images": ([-1, 32, -1, 1], "float32"), "widths": ([-1], "int32")}
    assert shapes(pixels.outputs) == {"output": ([-1], "string"), "probability": ([-1], "float64")}
    assert default.method_name == pixels.method_name == "tensorflow/serving/predict"


def test_prepared_images_are_read_as_the_files(exported_model, served, prepared):
    pixels, widths = prepared
    assert pixels.shape == (5, 32, max(widths), 1)
    assert -1.0 <= pixels.min() < -0.9 and 0.9 < pixels.max() < 1.0
    got = served("serving_pixels", images=pixels, widths=widths)
    assert [text.decode() for text in got["output"]] == exported_model.texts
    np.testing.assert_allclose(got["probability"], exported_model.probabilities, atol=1e-5)
    # One image alone, with wider padding than it needs.
    wide = np.pad(pixels[2:3, :, :widths[2]], [(0, 0), (0, 0), (0, 37), (0, 0)])
    alone = served("serving_pixels", images=wide, widths=widths[2:3])
    assert alone["output"].tolist() == got["output"][2:3].tolist()
    np.testing.assert_allclose(alone["probability"], got["probability"][2:3], atol=1e-5)
    none = served("serving_pixels", images=pixels[:0], widths=widths[:0])
    assert none["output"].shape == none["probability"].shape == (0,)


def test_details_of_each_character(exported_model, served):
    encoded = [Path(path).read_bytes() for path in exported_model.images]
    got = served("serving_detail", input=encoded)
    assert sorted(got) == ["alternative_probabilities", "alternatives", "characters", "confidences", "edges", "output",
                           "probability"]
    most = max(map(len, exported_model.texts))
    assert {name: value.shape for name, value in got.items()} == {
        "output": (5,), "probability": (5,), "characters": (5, most), "confidences": (5, most), "edges": (5, most, 2),
        "alternatives": (5, most, 5), "alternative_probabilities": (5, most, 5)}
    np.testing.assert_allclose(got["probability"], exported_model.probabilities, atol=1e-5)
    for k, text in enumerate(exported_model.texts):
        assert b"".join(got["characters"][k]).decode() == got["output"][k].decode() == text
        assert list(got["edges"][k, :len(text)].ravel()) == sorted(got["edges"][k, :len(text)].ravel())
        assert all(0.5 < confidence <= 1.0 for confidence in got["confidences"][k, :len(text)])
    alone = served("serving_detail", input=encoded[1])
    assert alone["characters"].shape == (3,) and alone["edges"].shape == (3, 2)  # B27


def test_the_description_travels_with_the_model(exported_model, trained):
    frozen = os.path.dirname(exported_model.frozen)
    described = json.loads(Path(trained.model_dir, "model.json").read_text())
    for directory in (exported_model.directory, frozen):
        found = read_export_description(directory)
        assert list(found.charset.characters) == described["charset"]
        assert found.config.canvas_width == described["preprocessing"]["canvas_width"]
        assert found.config.max_pixels == 50_000_000 and found.decoding._asdict() == described["decoding"]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(tf.GraphDef.FromString(Path(exported_model.frozen).read_bytes()), name="")
        told = session.run("description:0").decode()
    assert told == Path(frozen, "frozen_graph.json").read_text()
    assert read_export_description(trained.model_dir) is None


def test_flags_of_the_export_are_in_its_description(trained, tmp_path):
    flags = ("--decoding", "attention", "--max-pixels", "4000", "--no-verify", "--no-warm-up")
    assert export_to(tmp_path / "out", trained, *flags) == 0
    found = read_export_description(str(tmp_path / "out"))
    assert found.decoding.method == "attention" and found.config.max_pixels == 4000
    assert os.listdir(tmp_path / "out" / "assets.extra") == ["model.json"]


# ---- the graph

def all_nodes(graph_def):
    return [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]


def test_only_what_serving_needs_is_in_the_graph(exported_model, trained):
    saved = SavedModel.FromString(Path(exported_model.directory, "saved_model.pb").read_bytes())
    (meta_graph,) = saved.meta_graphs
    frozen = tf.GraphDef.FromString(Path(exported_model.frozen).read_bytes())
    with find_model(trained.model_dir, {}).open(details=True) as model:
        whole = len(all_nodes(model.graph.as_graph_def()))
    for graph_def in (meta_graph.graph_def, frozen):
        ops = {node.op for node in all_nodes(graph_def)}
        assert not [op for op in ops if "Variable" in op or op in NOT_CORE or op.startswith("_")]
        # Images are decoded by the processor, inside functions; nothing else has a place.
        assert not [node.name for node in graph_def.node if node.device]
        assert {node.device for node in all_nodes(graph_def)} <= {"", "/device:CPU:0"}
        assert len(all_nodes(graph_def)) < 0.65 * whole
    assert not list(Path(exported_model.directory, "variables").glob("*"))


def test_batch_norm_is_in_the_kernels(exported_model, trained):
    frozen = tf.GraphDef.FromString(Path(exported_model.frozen).read_bytes())
    nodes = {node.name: node for node in frozen.node}
    convolutions = [node for node in frozen.node if node.op == "Conv2D"]
    assert len(convolutions) == 7
    with find_model(trained.model_dir, {}).open() as model:
        weights = model.values()
    for number, conv in enumerate(convolutions, 1):
        (reader,) = [node for node in frozen.node if conv.name in node.input]
        assert reader.op == "BiasAdd"
        own = {name: weights[f"cnn/conv{number}/{name}"].astype(np.float64) for name in (
            "kernel", "gamma", "beta", "population_mean", "population_variance")}
        factor = own["gamma"] / np.sqrt(own["population_variance"] + BATCH_NORM_EPSILON)
        kernel, bias = (tf.make_ndarray(nodes[node.input[1]].attr["value"].tensor) for node in (conv, reader))
        np.testing.assert_allclose(kernel, own["kernel"] * factor, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(bias, own["beta"] - own["population_mean"] * factor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind, folded", [("affine", 1), ("its own reader", 0), ("per row", 0), ("no offset", 0)])
def test_folding_by_hand(kind, folded):
    x = np.arange(24.0, dtype=np.float32).reshape(1, 3, 4, 2)
    with tf.Graph().as_default() as graph:
        given = tf.placeholder(tf.float32, [None, None, None, 2], "x")
        kernel = tf.constant(np.linspace(-1.0, 1.0, 6, dtype=np.float32).reshape(1, 1, 2, 3), name="kernel")
        y = tf.nn.conv2d(given, kernel, 1, "SAME", name="conv")
        width = tf.shape(y)[2]
        factor = tf.constant([[[2.0]], [[3.0]], [[4.0]]] if kind == "per row" else [2.0, 3.0, 0.5])
        scaled = y * factor
        total = scaled if kind == "no offset" else scaled + tf.constant([7.0, -5.0, 0.25])
        if kind == "its own reader":
            total += y
        tf.identity(total * tf.cast(width, tf.float32), "out")
    graph_def = graph.as_graph_def()
    expected = run_graph_def(graph_def, x)
    assert fold_batch_norm(graph_def) == folded
    np.testing.assert_allclose(run_graph_def(graph_def, x), expected, rtol=1e-6)
    pruned = tf.graph_util.extract_sub_graph(graph_def, ["out"])
    assert [node.op for node in pruned.node].count("BiasAdd") == folded


def run_graph_def(graph_def, x):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        return session.run("out:0", {"x:0": x})


# ---- verification

def corrupted(write):
    """Returns a writer of exports whose last weights are slightly wrong."""
    def writing(model, directory, config):
        write(model, directory, config)
        path = Path(directory, "saved_model.pb")
        saved = SavedModel.FromString(path.read_bytes())
        (bias,) = [node for node in saved.meta_graphs[0].graph_def.node if node.name == "ctc/output/bias"]
        values = tf.make_ndarray(bias.attr["value"].tensor).copy()
        values[:10] += 0.3
        bias.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))
        path.write_bytes(saved.SerializeToString())

    return writing


def test_an_export_that_answers_otherwise_does_not_appear(exported_model, trained, tmp_path, monkeypatch, capsys):
    kind = export.FORMATS["savedmodel"]
    monkeypatch.setitem(export.FORMATS, "savedmodel", kind._replace(write=corrupted(kind.write)))
    shutil.copytree(exported_model.directory, tmp_path / "live")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert export_to(tmp_path / "live", trained, "--force") == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if "error" in line]
    assert "the exported model differs from its checkpoint: serving_default, one image: " in line
    assert " instead of " in line and "nothing was written" in line and not captured.out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_export_that_does_not_run_is_told_in_a_line(tmp_path):
    (tmp_path / "frozen_graph.pb").write_bytes(b"no graph")
    with pytest.raises(UserError, match="the exported model cannot be run: .*Error parsing message"):
        verification._replayed([], str(tmp_path), None)


def test_an_export_is_compared_on_a_dataset(trained, tmp_path, capsys):
    flags = ("--verify", trained.dataset, "--format", "frozengraph")
    assert export_to(tmp_path / "out", trained, *flags) == 0
    assert printed(capsys.readouterr().out) == {"exported": str(tmp_path / "out")}
    assert export_to(tmp_path / "other", trained, "--verify", str(tmp_path / "none")) == 1
    assert "none: no such dataset" in capsys.readouterr().err
    broken = tmp_path / "broken"
    broken.write_bytes(b"no records" * 9)
    assert export_to(tmp_path / "other", trained, "--verify", str(broken)) == 1
    assert f"--verify {broken}: cannot be read" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["broken", "out"]


def test_the_process_that_answers_knows_no_model():
    code = "import sys, aocr.exporting.replay; print(sorted(name for name in sys.modules if name.startswith('aocr')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['aocr', 'aocr.exporting', 'aocr.exporting.replay']"


@pytest.mark.parametrize("got, expected, told", [
    ([b"A", b"\xc3\x84"], [b"A", b"\xc3\x84"], None), ([b"A", b"B"], [b"A", b"C"], "is 'B' instead of 'C'"),
    ([0.5, 0.25], [0.50009, 0.25], None), ([0.5, 0.2502], [0.5, 0.25], "is 0.250200 instead of 0.250000"),
    ([0.5], [0.5, 0.5], "has the shape [1] instead of [2]"), ([np.nan], [0.5], "is nan instead of 0.500000"),
    ([[0.5]], 0.5, "has the shape [1, 1] instead of []")])
def test_what_counts_as_a_difference(got, expected, told):
    kind = object if isinstance(got[0], bytes) else np.float64
    assert difference(np.array(got, kind), expected) == told


def test_a_killed_export_leaves_nothing_that_looks_whole(trained, tmp_path):
    command = [sys.executable, "-m", "aocr", "export", str(tmp_path / "served"), "--model-dir", trained.model_dir,
               "--model-version", "auto", "--log-path", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("served/.aocr-*/1/assets.extra/*requests")):  # written, but not verified yet
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path / "served")
    assert left.startswith(".aocr-") and version_of(left) is None
    assert export_to(tmp_path / "served", trained, "--model-version", "auto", "--no-verify") == 0
    assert os.listdir(tmp_path / "served") == ["1"]


# ---- TensorFlow Serving

def messages(package, definitions):
    """Makes message classes: {message: {field: (number, type, repeated)}}; a type that is a message begins with a dot.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    pool = descriptor_pool.DescriptorPool()
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in definitions.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind.startswith("."):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{package}{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in definitions}


# Field numbers of tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto. A map is a list of
# entries; its tensors are left as bytes.
LOG = {
    "PredictionLog": {"predict_log": (6, ".PredictLog", False)},
    "PredictLog": {"request": (1, ".PredictRequest", False)},
    "PredictRequest": {"model_spec": (1, ".ModelSpec", False), "inputs": (2, ".Entry", True)},
    "ModelSpec": {"name": (1, "string", False), "signature_name": (3, "string", False)},
    "Entry": {"key": (1, "string", False), "value": (2, "bytes", False)},
}


def test_the_server_can_answer_its_warm_up_requests(exported_model, served):
    parse = messages("warm_up", LOG)["PredictionLog"].FromString
    path = os.path.join(exported_model.directory, "assets.extra", "tf_serving_warmup_requests")
    records = [parse(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    asked = []
    for record in records:
        request = record.predict_log.request
        inputs = {entry.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry.value))
                  for entry in request.inputs}
        answer = served(request.model_spec.signature_name, **inputs)
        asked.append((request.model_spec.name, request.model_spec.signature_name, len(answer["output"])))
    signatures = sorted(served.signatures)
    assert sorted(asked) == [("aocr", name, count) for name in signatures for count in (1, 2)]


def test_a_long_field_of_the_wire_format():
    assert warm_up._field(2, b"x" * 300) == b"\x12\xac\x02" + b"x" * 300  # 300 = 2 * 128 + 44


def test_versions_follow_each_other_and_old_ones_go(exported_model, trained, tmp_path, capsys):
    served = tmp_path / "served"
    for name in ("3", "7", "007x"):
        shutil.copytree(exported_model.directory, served / name)
    (served / "2").mkdir()
    (served / "2" / "mine.txt").write_text("keep me")
    flags = ("--no-verify", "--no-warm-up", "--models-config", str(tmp_path / "models.config"), "--batching-config",
             str(tmp_path / "batching.config"), "--model-name", 'a"b')
    assert export_to(served, trained, "--model-version", "auto", "--keep-versions", "2", *flags) == 0
    assert printed(capsys.readouterr().out) == {
        "exported": str(served / "8"), "models_config": str(tmp_path / "models.config"),
        "batching_config": str(tmp_path / "batching.config")}
    assert sorted(os.listdir(served)) == ["007x", "2", "7", "8"]
    config = messages("config", {
        "ModelServerConfig": {"model_config_list": (1, ".ModelConfigList", False)},
        "ModelConfigList": {"config": (1, ".ModelConfig", True)},
        "ModelConfig": {"name": (1, "string", False), "base_path": (2, "string", False),
                        "model_platform": (4, "string", False)}})["ModelServerConfig"]()
    text_format.Parse((tmp_path / "models.config").read_text(), config)
    (one,) = config.model_config_list.config
    assert (one.name, one.base_path, one.model_platform) == ('a"b', str(served), "tensorflow")
    batching = messages("batching", {
        "BatchingParameters": {name: (number, ".Value", False) for number, name in (
            (1, "max_batch_size"), (2, "batch_timeout_micros"), (3, "max_enqueued_batches"))},
        "Value": {"value": (1, "int64", False)}})["BatchingParameters"]()
    text_format.Parse((tmp_path / "batching.config").read_text(), batching)
    assert (batching.max_batch_size.value, batching.batch_timeout_micros.value) == (16, 2000)


def test_a_configuration_replaces_no_other_file(trained, tmp_path, capsys):
    (tmp_path / "models.config").write_text("model_config_list { }")
    flags = ("--model-version", "auto", "--models-config", str(tmp_path / "models.config"))
    assert export_to(tmp_path / "served", trained, *flags) == 1
    assert "exists and is not a configuration that aocr export wrote" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["models.config"]


@pytest.mark.parametrize("names, following", [
    ((), 1), (("1", "2"), 3), (("10", "9"), 11), (("0012",), 13), (("x1", ".5", "1.0", "-3", "²"), 1),
    (("99999999999999999999",), 1)])
def test_the_next_version(tmp_path, names, following):
    for name in names:
        (tmp_path / name).mkdir()
    assert versions.next_version(str(tmp_path)) == following
    assert versions.next_version(str(tmp_path / "none")) == 1


def test_a_version_that_another_process_took_is_left_alone(tmp_path):
    def write(directory):
        os.makedirs(directory)
        Path(directory, "saved_model.pb").write_text("ours")
        (tmp_path / "4").mkdir(exist_ok=True)
        (tmp_path / "4" / "saved_model.pb").write_text("theirs")

    assert placing.put(write, str(tmp_path / "4"), numbered=True) == str(tmp_path / "5")
    assert [(tmp_path / name / "saved_model.pb").read_text() for name in ("4", "5")] == ["theirs", "ours"]
    assert sorted(os.listdir(tmp_path)) == ["4", "5"]


@pytest.mark.parametrize("keep, newest, left", [
    (1, "5", ["5", "6", "8"]), (2, "5", ["4", "5", "6", "8"]), (9, "5", ["1", "4", "5", "6", "8"]),
    (1, "1", ["1", "6", "8"]), (2, "1", ["1", "5", "6", "8"])])
def test_only_old_exports_of_ours_are_pruned(tmp_path, keep, newest, left):
    for name in ("1", "4", "5", "8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"input_image_as_bytes" if name != "8" else b"of another")
    os.symlink("4", tmp_path / "6")
    versions.prune(str(tmp_path), newest, keep, formats.is_export, placing.remove)
    assert sorted(os.listdir(tmp_path)) == left


@pytest.mark.parametrize("options, told", [
    (dict(model_version="0"), "--model-version is 0; use a number from 1"),
    (dict(model_version="1x"), "--model-version is 1x"), (dict(model_version=str(2**63)), "--model-version is 92233"),
    (dict(keep_versions=2), "--keep-versions needs --model-version"),
    (dict(models_config="x"), "--models-config needs --model-version"),
    (dict(verify="x", verification=False), "--verify and --no-verify are mutually exclusive"),
    (dict(model_name="a/b"), "--model-name is 'a/b'")])
def test_options_that_do_not_fit(options, told):
    with pytest.raises(ValueError, match=told):
        ExportConfig(**options)
