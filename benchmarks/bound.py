"""Compares training and inference speed with the bound set by the machine's matrix product.

    python benchmarks/bound.py [--width 86] [--batch 65]

The bound: floating-point operations of the layers over the rate of a large matrix product, measured interleaved with
the steps (A B A B). The images are noise; only the time counts.
"""

import argparse
import math
import statistics
import time

from aocr.charset import charset_for
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import ATTENTION, Decoding, ModelConfig, TrainConfig

ROUNDS, STEPS = 5, 2
MATRIX = 3072
# rows of features at each convolution, and columns of pixels per column of features
PLACES = {"conv1": (32, 1), "conv2": (16, 2), "conv3": (8, 4), "conv4": (8, 4), "conv5": (4, 4), "conv6": (4, 4),
          "conv7": (2, 4)}


def multiply_adds(variables, config, width, steps):
    """Returns the multiply-adds of one image's forward pass, by part: dict of str -> int."""
    length = math.ceil(width / 4)
    parts = dict.fromkeys([*PLACES, "encoder", "decoder"], 0)
    for variable in variables:
        stage, name, *_ = variable.op.name.split("/")
        size = math.prod(variable.shape.as_list())
        if "kernel" in variable.op.name and stage == "cnn":
            rows, across = PLACES[name]
            parts[name] += size * rows * math.ceil(width / across)
        elif stage == "encoder" and len(variable.shape) == 2:
            parts["encoder"] += size * length
        elif stage == "decoder" and len(variable.shape) == 2 and name != "embedding":
            times = {"hand_over": 1}.get(name, length if variable.op.name.endswith("attention/memory") else steps)
            parts["decoder"] += size * times
    depth = 2 * config.encoder_units
    parts["decoder"] += 2 * length * depth * steps  # scores and contexts
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=86)
    parser.add_argument("--batch", type=int, default=65)
    args = parser.parse_args()
    quiet_tensorflow(in_batches=True)
    import tensorflow.compat.v1 as tf
    from noise import NoiseSource

    from aocr.model import open_model
    from aocr.network import Network
    from aocr.original import NETWORK
    from aocr.training.graph import open_training_graph

    config, charset = ModelConfig(**NETWORK), charset_for(())
    steps = config.max_prediction + 1
    source = NoiseSource(args.batch, args.width, steps, len(charset))
    network = Network(config, charset)
    with open_training_graph(network, source, TrainConfig(ctc_weight=0.0)) as trained, \
            open_model(network, source=source, decoding=Decoding(ATTENTION)) as reading, \
            tf.Graph().as_default(), tf.Session() as session:
        side = tf.random.uniform([MATRIX, MATRIX])
        matrix = tf.get_variable("matrix", initializer=side, use_resource=True)
        product = tf.matmul(matrix.read_value(), matrix.read_value())[0, 0]
        session.run(tf.global_variables_initializer())
        runs = {"product": lambda: session.run(product),
                "train": lambda: trained.session.run(trained.train_ops.train_op),
                "read": lambda: reading.session.run(reading.prediction)}
        for model in (trained.model, reading):
            model.initialize()
            model.inputs.start(model.session)
        parts = multiply_adds(reading.graph.get_collection("trainable_variables"), config, args.width, steps)
        seconds = {name: [] for name in runs}
        for number in range(-1, ROUNDS):  # the first round is the warm-up
            for name, run in runs.items():
                started = time.perf_counter()
                for _ in range(STEPS):
                    run()
                if number >= 0:
                    seconds[name].append((time.perf_counter() - started) / STEPS)
    rate = 2 * MATRIX ** 3 / statistics.median(seconds["product"])
    forward = 2 * sum(parts.values()) * args.batch
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s")
    print("GFLOP per image, forward:", ", ".join(f"{name} {2e-9 * count:.3f}" for name, count in parts.items()))
    for name, work in (("train", 3 * forward), ("read", forward)):
        took, bound = statistics.median(seconds[name]), work / rate
        print(f"{name}: {took:.3f} s per batch, bound {bound:.3f} s: {100 * bound / took:.0f}% of it; "
              f"{args.batch / took:.1f} images/s")


if __name__ == "__main__":
    main()
