"""Compares nodes and build time of the graph for two canvas and label sizes, interleaved: they should be equal.

    python benchmarks/graph_size.py
"""

import os
import statistics
import time

from aocr.charset import charset_for
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import ATTENTION, Decoding, ModelConfig, TrainConfig

SIZES = {
    "160x60, 8 characters": {},
    "2000x32, 200 characters": {"max_width": 2000, "max_height": 32, "max_prediction": 200},
}
ROUNDS = 5


def main():
    quiet_tensorflow()
    for name, training in (("training", TrainConfig(ctc_weight=0.2)), ("serving", None)):
        seconds = {size: [] for size in SIZES}
        nodes = {}
        for _ in range(ROUNDS):
            for size, options in SIZES.items():
                nodes[size], took = build(ModelConfig(**options), training)
                seconds[size].append(took)
        for size in SIZES:
            print(f"{name}, {size}: {nodes[size]} nodes, {statistics.median(seconds[size]):.2f} s")


def build(config, training):
    """Builds a model. Returns (nodes of its graph and of the graph's functions, seconds)."""
    from aocr.data import scanning
    from aocr.data.pipeline import Source
    from aocr.model import open_model
    from aocr.network import Network
    from aocr.training.graph import open_training_graph

    source = Source(scanning.DatasetStatistics("", [os.devnull], [0]), batch_size=65)
    started = time.perf_counter()
    network = Network(config, charset_for(()))
    with (open_training_graph(network, source, training).model if training
          else open_model(network, decoding=Decoding(ATTENTION))) as model:
        graph = model.graph.as_graph_def()
        nodes = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
        return nodes, time.perf_counter() - started


if __name__ == "__main__":
    main()
