"""Measures the input pipeline's overhead: training steps fed by it against the same steps fed from memory.

    python benchmarks/input_wait.py DATASET [--steps 20]

Both run the same batches, interleaved (A B A B). Also printed: the share of padding in the pixels of an epoch, and the
pipeline's images per second when nothing else runs.
"""

import argparse
import statistics
import time

import numpy as np

from aocr.commands.runtime import quiet_tensorflow
from aocr.config import MOST_IMAGES, TrainConfig

ROUNDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=MOST_IMAGES)
    args = parser.parse_args()
    quiet_tensorflow(in_batches=True)
    import tensorflow.compat.v1 as tf

    from aocr.data import fit, scanning
    from aocr.data.pipeline import Source
    from aocr.network import Network
    from aocr.training.graph import open_training_graph

    scan = scanning.scan(args.dataset)
    config, _ = fit.fit_config(scan, {})
    charset, _ = fit.fit_charset(scan)
    training = TrainConfig(batch_size=args.batch, ctc_weight=0.2)
    with open_training_graph(Network(config, charset), Source(scan, training.batch_size), training) as graph:
        graph.initialize()
        session, examples = graph.session, graph.model.inputs
        batch = examples.batch
        examples.start(session)
        kept, pixels, padding, started = [], 0, 0, time.perf_counter()
        while True:
            try:
                got = session.run(batch)
            except tf.errors.OutOfRangeError:
                break
            kept = kept if len(kept) == args.steps else [*kept, got]
            pixels += got.pixels[..., 0].size
            padding += got.pixels[..., 0].size - int(np.sum(got.widths)) * got.pixels.shape[1]
        seconds = time.perf_counter() - started
        print(f"pipeline alone: {scan.usable / seconds:.0f} images/s; padding: {100 * padding / pixels:.1f}% of pixels")

        examples.start(session)
        session.run(graph.train_ops.train_op, dict(zip(batch, kept[0])))  # warm-up
        ratios = []
        for number in range(1, ROUNDS + 1):
            took = {}
            for source in ("memory", "pipeline"):
                examples.start(session)
                started = time.perf_counter()
                for one in kept:
                    session.run(graph.train_ops.train_op, dict(zip(batch, one)) if source == "memory" else {})
                took[source] = (time.perf_counter() - started) / len(kept)
            ratios.append(took["pipeline"] / took["memory"])
            print(f"round {number}: {took['memory']:.3f} s per step from memory, {took['pipeline']:.3f} s from the "
                  f"pipeline, ratio {ratios[-1]:.3f}", flush=True)
        print(f"ratio: median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
