"""Compares warm latency at batch size 1 of the exported graph, of the model that it is made from, and of the original's
recorded graph, interleaved (A B A B) in one process; and the numbers of their operations.

    python benchmarks/latency.py IMAGE... [--original DIR] [--max-width 160] [--max-height 60]

The weights are untrained and texts have maximum length, which disadvantages a model that would stop earlier.
TF_ENABLE_ONEDNN_OPTS=0 or 1 in the environment selects the kernels of both sides.
"""

import argparse
import gzip
import json
import os
import statistics
import time

from aocr.charset import charset_for
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import DECODINGS, JOINT, Decoding, ModelConfig

WARM_UP, ROUNDS, READS = 20, 5, 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--original", help="directory of the recorded graphs")
    parser.add_argument("--decoding", choices=DECODINGS, default=JOINT)
    parser.add_argument("--max-width", type=int, default=ModelConfig.max_width)
    parser.add_argument("--max-height", type=int, default=ModelConfig.max_height)
    args = parser.parse_args()
    quiet_tensorflow()
    images = []
    for path in args.images:
        with open(path, "rb") as file:
            images.append(file.read())
    readers = our_readers(args)
    if args.original:
        readers["original"] = original_reader(args)
    milliseconds = {name: [] for name in readers}
    for number in range(-1, ROUNDS):  # the first round is the warm-up
        for name, read in readers.items():
            for k in range(WARM_UP if number < 0 else READS):
                started = time.perf_counter()
                read(images[k % len(images)])
                if number >= 0:
                    milliseconds[name].append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    for name, values in milliseconds.items():
        ranked = sorted(values)
        p10, p95 = (ranked[int(share * len(ranked))] for share in (0.1, 0.95))
        print(f"{name}: p10 {p10:.1f} ms, p50 {medians[name]:.1f} ms, p95 {p95:.1f} ms")
    for other in list(readers)[1:]:
        print(f"ratio of p50 to {other}: {medians['exported'] / medians[other]:.2f}")


def our_readers(args):
    """Returns functions that read one encoded image, with our exported graph and with the model."""
    import tensorflow.compat.v1 as tf

    from aocr.exporting.freezing import serving_graph
    from aocr.exporting.signatures import DEFAULT, nodes_of, signatures_of
    from aocr.model import open_model
    from aocr.network import Network

    config = ModelConfig(max_width=args.max_width, max_height=args.max_height)
    model = open_model(Network(config, charset_for(())), decoding=Decoding(args.decoding))
    model.initialize()
    signatures = signatures_of(model)
    exported = serving_graph(model, nodes_of(signatures))
    for name, graph_def in (("exported", exported), ("model", model.graph.as_graph_def())):
        inside = sum(len(function.node_def) for function in graph_def.library.function)
        print(f"{name}: {len(graph_def.node)} operations, {inside} more in functions")
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(exported, name="")
    session = tf.Session(graph=graph)
    fetches = [tensor.name for tensor in signatures[DEFAULT].outputs.values()]
    return {"exported": lambda image: session.run(fetches, {model.inputs.encoded.name: [image]}),
            "model": lambda image: model.predict([image])}


def original_reader(args):
    """Returns the same for the original's graph."""
    import tensorflow.compat.v1 as tf

    name = os.path.join(args.original, f"original-test-{args.max_width}x{args.max_height}")
    with open(name + ".json") as file:
        names = json.load(file)
    graph_def = tf.GraphDef()
    with gzip.open(name + ".graphdef.gz") as file:
        graph_def.ParseFromString(file.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    session = tf.Session(graph=graph)
    session.run(names["init"])
    return lambda image: session.run([names["prediction"], names["probability"]], {names["images"]: [image]})


if __name__ == "__main__":
    main()
