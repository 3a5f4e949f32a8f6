"""End to end through the command line: a model trained on drawn words reads them back."""

import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers import printed

from aocr.cli import main
from aocr.evaluation.analysis import FIGURES


def test_training_reads_its_words_back(trained, capsys):
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", ""]) == 0
    figures = printed(capsys.readouterr().out)
    assert list(figures) == ["decoding", "samples", "skipped", *FIGURES, "seconds", "images_per_second"]
    assert figures["samples"] == str(len(trained.labels))
    assert float(figures["exact_match"]) == 1.0
    assert float(figures["accuracy"]) == 1.0
    assert float(figures["cer"]) == 0.0
    assert 0.5 < float(figures["mean_probability"]) <= 1.0


def test_test_logs_a_line_a_sample_in_order(trained, tmp_path):
    log = tmp_path / "test.log"
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", str(log),
                 "--batch-size", "3"]) == 0
    numbers = [int(n) for n in re.findall(r"\(record (\d+)\)", log.read_text())]
    assert numbers == list(range(len(trained.labels)))


def test_visualize_writes_below_the_output_directory(trained, tmp_path):
    out = tmp_path / "pictures"
    assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", "", "--visualize",
                 "--output-dir", str(out)]) == 0
    samples = sorted((out / "correct").iterdir())
    assert len(samples) == len(trained.labels)
    for sample in samples:
        text = (sample / "word.txt").read_text(encoding="utf-8").splitlines()[0]
        assert text in trained.labels
        frames = {f"image_{k}.jpg" for k in range(len(text) + 1)}
        assert frames | {"attention.png", "image.gif", "word.txt"} == {file.name for file in sample.iterdir()}


def test_predict_prints_a_line_a_file_in_order(trained, capsys):
    assert main(["predict", "--model-dir", trained.model_dir, "--log-path", "", *trained.images]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == trained.images
    assert [row[2] for row in rows] == trained.labels
    assert all(0.0 < float(row[1]) <= 1.0 for row in rows)


def test_predict_reads_paths_from_standard_input_and_goes_on_after_a_bad_file(trained, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [trained.images[2], str(bad), str(tmp_path / "missing.png"), trained.images[0]]
    done = subprocess.run(
        [sys.executable, "-m", "aocr", "predict", "--model-dir", trained.model_dir, "--log-path", ""],
        input="\n".join(paths) + "\n", capture_output=True, text=True)
    assert done.returncode == 1
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [
        (trained.images[2], trained.labels[2]), (trained.images[0], trained.labels[0])]
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 2
    assert str(bad) in errors[0] and "not a supported image" in errors[0]
    assert "missing.png" in errors[1] and "no such file" in errors[1]
    assert f"Result: OK. {float(rows[0][1]):.2f} {trained.labels[2]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_model_directory_describes_itself(trained):
    with open(os.path.join(trained.model_dir, "model.json"), encoding="utf-8") as file:
        description = json.load(file)
    assert description["format_version"] == 1
    assert description["model"]["attn_num_hidden"] == 64
    assert "".join(description["charset"]) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert description["preprocessing"]["version"] == 1
    # The widest word is wider than the default canvas, so the canvas is fitted to it.
    assert description["preprocessing"]["canvas_width"] == max(trained.widths) > 86


@pytest.mark.parametrize("command", ["test", "predict", "export", "train"])
def test_a_flag_that_contradicts_the_model_names_both_values(trained, command, capsys, tmp_path):
    target = {"test": [trained.dataset], "predict": [trained.images[0]], "export": [str(tmp_path / "out")],
              "train": [trained.dataset]}[command]
    code = main([command, *target, "--model-dir", trained.model_dir, "--attn-num-hidden", "77", "--log-path", ""])
    assert code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "--attn-num-hidden" in errors[0] and "77" in errors[0] and "64" in errors[0]


def test_a_flag_that_agrees_with_the_model_is_welcome(trained, capsys):
    assert main(["predict", "--model-dir", trained.model_dir, "--log-path", "", trained.images[0],
                 "--attn-num-hidden", "64", "--max-prediction", "8"]) == 0
    assert capsys.readouterr().out.endswith(f"\t{trained.labels[0]}\n")


@pytest.mark.parametrize("command", ["test", "predict", "export"])
def test_no_checkpoint_is_an_error(trained, command, capsys, tmp_path):
    target = {"test": [trained.dataset], "predict": [trained.images[0]], "export": [str(tmp_path / "out")]}[command]
    assert main([command, *target, "--model-dir", str(tmp_path / "nothing"), "--log-path", ""]) == 1
    captured = capsys.readouterr()
    assert "no checkpoint there" in captured.err and "Traceback" not in captured.err
    assert not captured.out
    assert not (tmp_path / "nothing").exists() and not (tmp_path / "out").exists()


def test_the_export_answers_without_aocr_in_the_shape_of_the_question(trained, exported_model, tmp_path):
    """A process that cannot import aocr loads the SavedModel and the frozen graph."""
    script = tmp_path / "serve.py"
    script.write_text(textwrap.dedent("""
        import json, sys
        import tensorflow.compat.v1 as tf
        assert not any(name.split(".")[0] == "aocr" for name in sys.modules)
        directory, frozen, *paths = sys.argv[1:]
        images = [open(path, "rb").read() for path in paths]
        shapes = {"scalar": images[0], "one": images[:1], "all": images, "none": [], "table": [images[:2], images[1:3]]}
        answers = {}
        with tf.Graph().as_default() as graph, tf.Session() as session:
            loaded = tf.saved_model.load(session, ["serve"], directory)
            assert not any(node.device for node in graph.as_graph_def().node), "a device is pinned"
            signature = loaded.signature_def["serving_default"]
            fetches = [signature.outputs["output"].name, signature.outputs["probability"].name]
            for name, value in shapes.items():
                text, probability = session.run(fetches, {signature.inputs["input"].name: value})
                as_list = lambda x: x.tolist() if hasattr(x, "tolist") else x
                answers[name] = [repr(as_list(text)), as_list(probability)]
        graph_def = tf.GraphDef()
        graph_def.ParseFromString(open(frozen, "rb").read())
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(graph_def, name="")
            text, probability = session.run(["prediction:0", "probability:0"], {"input_image_as_bytes:0": images})
            answers["frozen"] = [repr(text.tolist()), probability.tolist()]
            assert probability.dtype == "float64"
        print(json.dumps(answers))
    """))
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, str(script), exported_model.directory, exported_model.frozen,
                           *exported_model.images], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    expected = [text.encode() for text in exported_model.texts]
    assert answers["scalar"][0] == repr(expected[0])
    assert answers["one"][0] == repr(expected[:1])
    assert answers["all"][0] == answers["frozen"][0] == repr(expected)
    assert answers["none"] == ["[]", []]
    assert answers["table"][0] == repr([expected[:2], expected[1:3]])
    np.testing.assert_allclose(answers["all"][1], exported_model.probabilities, atol=1e-6)
    np.testing.assert_allclose(answers["frozen"][1], exported_model.probabilities, atol=1e-6)


def test_export_refuses_a_directory_that_holds_something(trained, tmp_path, capsys):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("keep me")
    arguments = ["export", str(target), "--model-dir", trained.model_dir, "--log-path", "", "--no-verify"]
    assert main(arguments) == 1
    assert "not empty" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 1  # --force replaces exports, not other files
    assert "mine.txt" in capsys.readouterr().err
    (target / "mine.txt").unlink()
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert main([*arguments, "--force"]) == 0
    assert (target / "saved_model.pb").exists()


def test_a_version_is_where_tensorflow_serving_looks(trained, tmp_path):
    arguments = ["export", str(tmp_path / "served"), "--model-dir", trained.model_dir, "--log-path", "", "--no-verify"]
    assert main([*arguments, "--model-version", "7"]) == 0
    assert main([*arguments, "--model-version", "12"]) == 0
    assert sorted(os.listdir(tmp_path / "served")) == ["12", "7"]
    assert (tmp_path / "served" / "7" / "saved_model.pb").exists()
    assert main([*arguments, "--model-version", "12", "--format", "frozengraph"]) == 2


def test_the_text_does_not_depend_on_the_neighbours(trained, capsys):
    """Reads images alone, and in a batch with a much wider one."""
    alone = []
    for image in trained.images[:3]:
        assert main(["predict", "--model-dir", trained.model_dir, "--log-path", "", image]) == 0
        alone += capsys.readouterr().out.splitlines()
    assert main(["predict", "--model-dir", trained.model_dir, "--log-path", "", *trained.images]) == 0
    together = capsys.readouterr().out.splitlines()[:3]
    for a, b in zip(alone, together):
        (path, probability, text), other = a.split("\t"), b.split("\t")
        assert (path, text) == (other[0], other[2])
        assert abs(float(probability) - float(other[1])) < 1e-4


def test_each_way_to_decode_reads_the_words_back(trained, capsys):
    for method in ("attention", "ctc", "joint"):
        assert main(["test", trained.dataset, "--model-dir", trained.model_dir, "--log-path", "", "--decoding",
                     method]) == 0
        figures = printed(capsys.readouterr().out)
        assert figures["decoding"] == method
        if method != "ctc":  # may need more than 130 steps on five words
            assert figures["exact_match"] == "1.000000" and figures["wer"] == "0.000000"


def test_a_model_without_ctc_decodes_by_attention_only(dataset, tmp_path, capsys):
    assert main(["train", dataset, "--model-dir", str(tmp_path), "--max-steps", "1", "--batch-size", "5",
                 "--ctc-weight", "0", "--log-path", ""]) == 0
    assert json.loads((tmp_path / "model.json").read_text())["decoding"]["method"] == "attention"
    capsys.readouterr()
    assert main(["test", dataset, "--model-dir", str(tmp_path), "--log-path", "", "--decoding", "joint"]) == 2
    assert f"--decoding joint: the model in {tmp_path} has no CTC branch" in capsys.readouterr().err
    assert main(["train", dataset, "--model-dir", str(tmp_path), "--max-steps", "1", "--ctc-weight", "0.2",
                 "--log-path", ""]) == 2
    assert f"--ctc-weight is 0.2, but the model in {tmp_path} has no CTC branch" in capsys.readouterr().err
