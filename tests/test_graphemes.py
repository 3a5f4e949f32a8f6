"""End-to-end test of grapheme clusters and right-to-left labels: predictions are in logical order."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow.compat.v1 as tf
from helpers import printed
from model_fixtures import draw_word

from aocr.charset import splitter
from aocr.checkpoint import read_description
from aocr.cli import main

# Drawn word -> label; they need not match.
LABELS = {"A1": "e\u0301\u0323E", "B27": "हिन्दी", "7": "🇩🇪👩\u200d👧", "K90": "ש\u05c1\u05b8לו\u05b9ם", "WWMW": "شَمْس"}
HEBREW = "K90"
CHARACTERS = [2, 2, 2, 4, 3]
QUIET = ["--log-path", ""]


def make_dataset(directory, labels):
    """Draws the words into `directory`, builds their dataset and returns its path."""
    lines = []
    for drawn, label in labels.items():
        image = directory / f"{drawn}.png"
        draw_word(drawn).save(image)
        lines.append(f"{image}\t{label}\n")
    (directory / "list.tsv").write_text("".join(lines), encoding="utf-8")
    path = str(directory / "data.tfrecords")
    assert main(["dataset", str(directory / "list.tsv"), path, "--normalize", "none", "--no-force-uppercase",
                 "--workers", "1", *QUIET]) == 0
    return path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A small model overfitted to labels of grapheme clusters: .model_dir, .dataset, .images."""
    directory = tmp_path_factory.mktemp("graphemes")
    dataset, model_dir = make_dataset(directory, LABELS), str(directory / "model")
    assert main(["train", dataset, "--model-dir", model_dir, "--graphemes", "--attn-num-hidden", "64",
                 "--batch-size", "5", "--max-steps", "130", *QUIET]) == 0
    return SimpleNamespace(model_dir=model_dir, dataset=dataset,
                           images=[str(directory / f"{drawn}.png") for drawn in LABELS])


def test_the_model_directory_says_what_characters_are(learnt):
    with open(os.path.join(learnt.model_dir, "model.json"), encoding="utf-8") as file:
        description = json.load(file)
    assert description["model"]["graphemes"] is True
    assert {"e\u0301\u0323", "न्दी", "👩\u200d👧", "ש\u05c1\u05b8", "مْ"} <= set(description["charset"])
    assert "\u0301" not in description["charset"]
    assert read_description(learnt.model_dir).charset.graphemes


def test_labels_are_read_back_in_logical_order(learnt, capsys):
    assert main(["predict", "--model-dir", learnt.model_dir, *learnt.images, *QUIET]) == 0
    texts = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert texts == list(LABELS.values())
    assert [ord(texts[3][0]), ord(texts[4][0])] == [0x5E9, 0x634]  # the first letter as spoken comes first


def test_errors_are_counted_by_cluster_and_in_logical_order(learnt, capsys, tmp_path):
    assert main(["test", learnt.dataset, "--model-dir", learnt.model_dir, *QUIET]) == 0
    told = printed(capsys.readouterr().out)
    assert (told["exact_match"], told["accuracy"], told["cer"]) == ("1.000000", "1.000000", "0.000000")
    reversed_label = "".join(reversed(splitter(True)(LABELS[HEBREW])))
    other = make_dataset(tmp_path, {**LABELS, HEBREW: reversed_label, "A1": "e\u0323E"})
    assert main(["test", other, "--model-dir", learnt.model_dir, *QUIET]) == 0
    told = printed(capsys.readouterr().out)
    assert told["exact_match"] == "0.600000"
    assert float(told["accuracy"]) == pytest.approx((3 + 1 / 2 + 0) / 5, abs=1e-6)
    assert float(told["cer"]) == pytest.approx((1 + 4) / sum(CHARACTERS), abs=1e-6)


def test_there_is_a_picture_for_each_cluster_and_the_end(learnt, tmp_path):
    assert main(["test", learnt.dataset, "--model-dir", learnt.model_dir, "--visualize", "--output-dir",
                 str(tmp_path), *QUIET]) == 0
    samples = sorted((tmp_path / "correct").iterdir())
    assert [len(list(sample.glob("image_*.jpg"))) for sample in samples] == [count + 1 for count in CHARACTERS]
    assert (samples[3] / "word.txt").read_text(encoding="utf-8").splitlines() == [LABELS[HEBREW]] * 2


def test_exports_write_clusters_by_core_operations(learnt, tmp_path):
    assert main(["export", str(tmp_path / "frozen"), "--model-dir", learnt.model_dir, "--format", "frozengraph",
                 *QUIET]) == 0
    definition = tf.GraphDef.FromString((tmp_path / "frozen" / "frozen_graph.pb").read_bytes())
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    assert not [node.op for node in nodes if "PyFunc" in node.op or "Table" in node.op]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(definition, name="")
        images = [Path(path).read_bytes() for path in learnt.images]
        texts = session.run("prediction:0", {"input_image_as_bytes:0": images})
    assert [text.decode() for text in texts] == list(LABELS.values())


@pytest.mark.parametrize("command", ["train", "test", "predict"])
def test_the_flag_may_agree_but_not_contradict(learnt, trained, command, capsys):
    target = learnt.images[0] if command == "predict" else learnt.dataset
    assert main([command, target, "--model-dir", trained.model_dir, "--graphemes", *QUIET]) == 2
    assert capsys.readouterr().err == (f"aocr: error: --graphemes is True, but the model in {trained.model_dir} has "
                                       "False; leave the flag out\n")
    if command != "train":
        assert main([command, target, "--model-dir", learnt.model_dir, "--graphemes", *QUIET]) == 0


def test_training_goes_on_by_clusters_without_the_flag(learnt, tmp_path, capsys):
    """A label of 8 clusters (24 code points) fits the model; 9 clusters or an unknown cluster do not."""
    other = make_dataset(tmp_path, {"A1": "e\u0301\u0323" * 8, "7": "e\u0301\u0323" * 9, "K90": "e\u0323"})
    assert main(["train", other, "--model-dir", learnt.model_dir, *QUIET]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "9 characters exceed --max-prediction 8: 1 labels, the first is" in error
    assert "(U+0065 U+0323) is not in the charset of" in error and error.count("1 labels") == 2


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_charset_of_clusters(learnt, tmp_path, capsys, in_a_file):
    """In a file, a line may begin with a mark, which is then a character without base."""
    (tmp_path / "marks.txt").write_text("e\u0301\u0323E\n\u0301\n", encoding="utf-8")
    charset = str(tmp_path / "marks.txt") if in_a_file else "e\u0301\u0323E"
    assert main(["predict", "--model-dir", learnt.model_dir, "--graphemes", "--charset", charset, "x.png", *QUIET]) == 2
    error = capsys.readouterr().err
    listed = "3 characters: e\u0301\u0323 E \u0301" if in_a_file else "2 characters: e\u0301\u0323 E"
    assert error.startswith(f"aocr: error: --charset asks for {listed}; but the model in") and "न्दी" in error
