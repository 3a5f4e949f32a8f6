"""Model directories of earlier releases, written here in their layout, are read and trained further."""

import json
import os

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.charset import ALPHANUMERIC
from aocr.cli import main

U, E = 7, 5  # units, size of the embedding


def model_of_0_9_0(directory):
    """Writes a model directory as aocr 0.9.0 did: two layers, no CTC, no options that came later."""
    ids, depth = 3 + len(ALPHANUMERIC), 4 * U  # the encoder has 2 U units in each direction
    shapes = {}
    channels = 1
    for k, (filters, size) in enumerate([(64, 3), (128, 3), (256, 3), (256, 3), (512, 3), (512, 3), (512, 2)], 1):
        shapes[f"cnn/conv{k}/kernel"] = [size, size, channels, filters]
        channels = filters
    for k, filters in ((3, 256), (5, 512), (7, 512)):
        shapes |= {f"cnn/conv{k}/{name}": [filters]
                   for name in ("beta", "gamma", "population_mean", "population_variance")}
    for direction in ("forward", "backward"):
        shapes |= {f"encoder/{direction}/kernel": [512 + 2 * U, 8 * U], f"encoder/{direction}/bias": [8 * U]}
    for state in ("cell", "hidden"):
        shapes |= {f"decoder/hand_over/{state}/kernel": [depth, 2 * U], f"decoder/hand_over/{state}/bias": [2 * U]}
    for layer in range(2):
        shapes |= {f"decoder/layer{layer}/kernel": [2 * U, 4 * U], f"decoder/layer{layer}/bias": [4 * U]}
    shapes |= {"decoder/attention/memory": [depth, depth], "decoder/attention/query/kernel": [4 * U, depth],
               "decoder/attention/query/bias": [depth], "decoder/attention/v": [depth, 1],
               "decoder/embedding": [ids, E], "decoder/input/kernel": [E + depth, U], "decoder/input/bias": [U],
               "decoder/output/kernel": [U + depth, ids], "decoder/output/bias": [ids]}
    random = np.random.RandomState(5)
    values = {name: random.uniform(0.01, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    values["decoder/output/bias"][12] = 15.0  # "9", whatever is in the image
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name) for name, value in values.items()}
        variables["global_step"] = tf.Variable(np.int64(40), name="step")
        state = dict(version=1, first_step=0, finished=True, epoch=3, batch=1, order="", rate_factor=1.0, rollbacks=0,
                     without_gain=0, owes_validation=False, best=None, best_of="", first_epoch=0)
        variables["training/state"] = tf.Variable(json.dumps(state), name="state")
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, os.path.join(directory, "model.ckpt-40"), write_meta_graph=False)
    (directory / "model.json").write_text(json.dumps({
        "format_version": 1, "aocr_version": "0.9.0",
        "model": dict(max_width=160, max_height=60, max_prediction=4, graphemes=False, color=False, use_gru=False,
                      attn_num_layers=2, attn_num_hidden=U, target_embedding_size=E),
        "charset": list(ALPHANUMERIC),
        "preprocessing": {"version": 1, "height": 32, "canvas_width": 86, "channels": 1}}))


def test_a_model_of_0_9_0_is_read_and_trained_further(tmp_path, dataset, words, capsys):
    model_of_0_9_0(tmp_path)
    flags = ["--model-dir", str(tmp_path), "--log-path", ""]
    assert main(["predict", *flags, words.images[0]]) == 0
    assert capsys.readouterr().out.endswith("\t99999\n")  # four characters and what would be EOS
    assert main(["train", dataset, *flags, "--max-steps", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("step: 41\n")
    assert "was trained with other options" in captured.err  # its optimizer's state is not there
    assert main(["test", dataset, *flags]) == 0
    assert "decoding: attention\nsamples: 5\n" in capsys.readouterr().out
