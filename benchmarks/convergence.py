"""Measures how many images training needs to read captchas, for several seeds.

    python benchmarks/convergence.py [--labels digits|mixed] [--images 6500] [--seeds 0 1 2] [-- FLAG...]

Needs `pip install captcha`. `digits`: four digits; `mixed`: three to eight of 0-9A-Z; 6,000 training and 500 test
images of 160 x 60, labels from random.Random(1) and (2), noise from Python's global generator with the same seeds.
Arguments after `--` are passed to `aocr train`, such as `--batch-size 65`. Each run is one `aocr train` of `--images`
images with LOOKS checkpoints, each of which is tested on the 500.

Prints a line per run: the images seen by each checkpoint and its exact match in percent; the mean loss of the last
tenth; and the worst spike, the most by which the mean loss of ten steps exceeded the lowest one before it.
"""

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time

from aocr.commands.runtime import quiet_tensorflow

SIZE = {"width": 160, "height": 60}
COUNTS = {"train": (1, 6000), "test": (2, 500)}  # seed, images
LOOKS = 5  # checkpoints; `aocr train` keeps this many
SMOOTHED = 10  # steps per mean loss that spikes are measured on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", choices=("digits", "mixed"), default="digits")
    parser.add_argument("--images", type=int, default=6500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("flags", nargs="*", help="flags of aocr train, after --")
    args = parser.parse_args()
    quiet_tensorflow(in_batches=True)
    with tempfile.TemporaryDirectory() as directory:
        data = {name: draw(directory, name, args.labels) for name in COUNTS}
        for seed in args.seeds:
            model_dir, started = os.path.join(directory, f"model-{seed}"), time.monotonic()
            batch = train(data["train"], model_dir, seed, args)
            seconds = time.monotonic() - started
            losses = read_losses(model_dir)
            exact = {step * batch: exact_match(path, data["test"]) for step, path in checkpoints(model_dir)}
            tail = losses[-max(1, len(losses) // 10):]
            print(f"seed {seed}: " + ", ".join(f"{images}: {100 * share:.1f}" for images, share in exact.items())
                  + f"; loss {sum(tail) / len(tail):.3f}, spike {spike(losses):.2f}; {seconds:.0f} s", flush=True)


def draw(directory, name, kind):
    """Draws captchas and makes a dataset of them. Returns its path."""
    from captcha.image import ImageCaptcha

    seed, count = COUNTS[name]
    labels, captcha = random.Random(seed), ImageCaptcha(**SIZE)
    random.seed(seed)  # ImageCaptcha draws fonts, positions and noise from the global generator
    images = os.path.join(directory, name)
    os.mkdir(images)
    annotations = os.path.join(images, "annotations.txt")
    with open(annotations, "w", encoding="utf-8") as file:
        for number in range(count):
            if kind == "digits":
                label = "".join(labels.choice("0123456789") for _ in range(4))
            else:
                label = "".join(labels.choice("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
                                for _ in range(labels.randint(3, 8)))
            path = os.path.join(images, f"{number}.png")
            captcha.write(label, path)
            file.write(f"{path}\t{label}\n")
    dataset = os.path.join(directory, f"{name}.tfrecords")
    aocr("dataset", annotations, dataset)
    return dataset


def train(dataset, model_dir, seed, args):
    """Trains one model. Returns the batch size."""
    from aocr.config import MOST_IMAGES, ORIGINAL_BATCH, TrainConfig

    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--batch-size", type=int)
    chosen.add_argument("--optimizer", default=TrainConfig.optimizer)
    given = chosen.parse_known_args(args.flags)[0]
    batch = given.batch_size or (ORIGINAL_BATCH if given.optimizer == "adadelta" else MOST_IMAGES)
    steps = math.ceil(args.images / batch)
    aocr("train", dataset, "--model-dir", model_dir, "--seed", str(seed), "--max-steps", str(steps),
         "--steps-per-checkpoint", str(math.ceil(steps / LOOKS)), "--log-step", "1", "--cache", *args.flags)
    return batch


def aocr(*arguments):
    subprocess.run([sys.executable, "-m", "aocr", "--log-path", "", *arguments], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def checkpoints(model_dir):
    """Returns (step, path) of each checkpoint kept."""
    import tensorflow.compat.v1 as tf

    paths = tf.train.get_checkpoint_state(model_dir).all_model_checkpoint_paths
    return [(int(path.rpartition("-")[2]), path) for path in paths]


def exact_match(path, dataset):
    """Returns the exact match of a checkpoint on a dataset."""
    from aocr import checkpoint
    from aocr.config import TestConfig
    from aocr.data import scanning
    from aocr.data.pipeline import Source

    trained = checkpoint.find_model(os.path.dirname(path), {}, which=path)
    with trained.open(source=Source(scanning.scan(dataset), TestConfig().batch_size)) as model:
        right = [reading.text == reading.label for reading in model.read()]
    return sum(right) / len(right)


def read_losses(model_dir):
    """Returns the loss of every step."""
    import tensorflow.compat.v1 as tf

    return [value.simple_value for path in sorted(tf.io.gfile.glob(os.path.join(model_dir, "events*")))
            for event in tf.train.summary_iterator(path) for value in event.summary.value if value.tag == "loss"]


def spike(losses):
    """Returns the most by which a mean of SMOOTHED consecutive losses exceeded the lowest one before it."""
    lowest, worst = math.inf, 0.0
    for end in range(SMOOTHED, len(losses) + 1):
        mean = sum(losses[end - SMOOTHED:end]) / SMOOTHED
        lowest = min(lowest, mean)
        worst = max(worst, mean - lowest)
    return worst


if __name__ == "__main__":
    main()
