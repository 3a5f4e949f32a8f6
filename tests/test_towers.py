"""A batch shared by several virtual devices has the same loss, gradients and statistics as on one."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import SMALL

from aocr.charset import ALPHANUMERIC, Charset
from aocr.cli import main
from aocr.commands.runtime import session_config
from aocr.config import ModelConfig, TrainConfig
from aocr.data.pipeline import Source
from aocr.data.scanning import DatasetStatistics
from aocr.errors import UserError
from aocr.graph.placement import Placement, in_process
from aocr.network import Network
from aocr.training.graph import open_training_graph

CONFIG = ModelConfig(max_width=200, attn_num_hidden=8, target_embedding_size=5)
def graph_on(towers, dataset, batch_size, placement=None, **options):
    """Opens a new TrainingGraph on `towers` virtual devices, without dropout."""
    training = TrainConfig(batch_size=batch_size, dropout=0.0, ctc_weight=0.3, **options)
    source = Source(DatasetStatistics(dataset, [dataset], [0]), batch_size)
    graph = open_training_graph(Network(CONFIG, Charset(ALPHANUMERIC)), source, training,
                                session_config=tf.ConfigProto(device_count={"CPU": towers}),
                                placement=placement or in_process(towers))
    graph.initialize()
    return graph


@pytest.fixture(scope="module")
def repeated(dataset, tmp_path_factory):
    """A dataset with the same record four times."""
    record = next(iter(tf.data.TFRecordDataset(dataset))).numpy()
    path = str(tmp_path_factory.mktemp("repeated") / "data")
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(4):
            writer.write(record)
    return path


def test_towers_make_the_same_steps(dataset):
    """With population statistics in batch norm, for any split; the batches have 2, 2 and 1 images."""
    found = []
    for count in (1, 3):
        with graph_on(count, dataset, 2, freeze="cnn", initial_learning_rate=0.01) as graph:
            found.append([(step.attention_loss, step.loss, step.gradient_norm) for step in graph.train(epochs=2)])
    assert len(found[0]) == 6 and found[0][0][0] > found[0][-1][0]
    np.testing.assert_allclose(found[1], found[0], rtol=2e-3)


def test_moments_of_shares_are_those_of_the_batch_and_equal_ones_make_the_same_step(repeated):
    images = np.random.default_rng(8).normal(size=(3, 32, 12, 1)).astype(np.float32)
    steps, moments = [], []
    for count in (1, 2):
        with graph_on(count, repeated, 4) as graph:
            # Only the first layer's input does not depend on the split.
            first = graph.moments[0].mean, graph.moments[0].variance
            fed = graph.model.inputs.images
            moments.append(graph.session.run(first, {fed.pixels: images, fed.widths: [12] * 3}))
            steps += [(step.loss, step.gradient_norm) for step in graph.train()]
    np.testing.assert_allclose(moments[1], moments[0], atol=1e-5)
    assert np.ptp(moments[0][0]) > 0.01
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-3)


def test_the_mean_of_equal_gradients_that_met_makes_the_same_step(dataset):
    with graph_on(1, dataset, 5) as graph:
        alone, second = graph.train(epochs=2)
    with graph_on(1, dataset, 5, Placement(accumulators=("/cpu:0", "/cpu:0"))) as graph:
        graph.session.run(graph.train_ops.start_accumulating)
        for _ in range(2):
            step, = graph.train()
            assert (step.step, step.loss) == (0, pytest.approx(alone.loss, rel=1e-5))
        assert graph.session.run(graph.train_ops.accumulator.brought) == 2
        assert graph.update(step.learning_rate) == (pytest.approx(alone.gradient_norm, rel=1e-4), 1)
        assert graph.session.run(graph.train_ops.accumulator.brought) == 0
        step, = graph.train(1)
        assert (step.step, step.loss) == (1, pytest.approx(second.loss, rel=1e-3))
        graph.session.run(graph.train_ops.start_accumulating)  # as when a chief restarts
        assert graph.session.run(graph.train_ops.accumulator.brought) == 0


def test_a_run_on_two(dataset, tmp_path, words, capsys):
    flags = ["--model-dir", str(tmp_path), "--log-path", ""]
    assert main(["train", dataset, *flags, *SMALL, "--gpus", "2", "--max-steps", "2"]) == 0
    assert "--gpus 2: no GPU is available" in capsys.readouterr().err
    assert main(["train", dataset, *flags, *SMALL, "--max-steps", "1"]) == 0  # on one again
    assert "step: 3" in capsys.readouterr().out
    assert main(["predict", *flags, *words.images]) == 0


def show_gpus(monkeypatch, names):
    """Pretends that the machine has these GPUs. Returns the list of what is asked of them."""
    asked = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: names)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: asked.append(devices))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda name, on: asked.append(f"{name} grows"))
    return asked


def test_a_deterministic_gpu(monkeypatch):
    asked = show_gpus(monkeypatch, ["a"])
    monkeypatch.setattr(tf.compat.v2.config.experimental, "enable_op_determinism", lambda: asked.append("same"))
    config = session_config(0, deterministic=True)
    assert (config.gpu_options.allow_growth, config.intra_op_parallelism_threads) == (True, 1)
    assert asked == ["a grows", ["a"], "same"]


def test_no_gpu_unless_chosen():
    """The eager context, which datasets and loops open, holds no GPU until a command chooses one."""
    program = """
from tensorflow.python.eager import context
import tensorflow as tf
from aocr.commands.runtime import quiet_tensorflow, session_config
c = context.context()
c._initialize_physical_devices()
gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{k}", "GPU") for k in range(3)]
c._physical_devices = [*c._physical_devices, *gpus]
c._visible_device_list = list(c._physical_devices)
c._memory_growth_map.update(dict.fromkeys(gpus))
quiet_tensorflow()
print(c.config.device_count["GPU"])
session = session_config(1, gpus=2)
own = c.config
print(own.device_count["GPU"], own.gpu_options.visible_device_list, own.gpu_options.allow_growth)
print(session.gpu_options.visible_device_list)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "2", "1,2", "True", "1,2"]


def test_gpus_that_contradict(dataset, tmp_path, capsys, monkeypatch):
    assert main(["train", dataset, "--model-dir", str(tmp_path), *SMALL, "--gpus", "2", "--gpu-id", "-1"]) == 2
    assert "--gpus is 2, but --gpu-id -1 selects the CPU" in capsys.readouterr().err
    shown = show_gpus(monkeypatch, ["a", "b", "c"])
    assert session_config(1, gpus=2).gpu_options.visible_device_list == "1,2"
    assert shown == ["b grows", "c grows", ["b", "c"]]
    with pytest.raises(UserError, match="--gpus is 3 from --gpu-id 1 on, but the available GPUs are 0 to 2"):
        session_config(1, gpus=3)
