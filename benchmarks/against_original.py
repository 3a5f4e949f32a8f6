"""Images a second in training and in test, ours and the original's in turn (A B A B), each in a process of its own.

    python benchmarks/against_original.py --annotations FILE [--original DIR] [--mode train|test] [--size 160x60]

FILE is an annotation file; its images and labels are what both sides read. Ours runs from a dataset on disk through
the whole input pipeline; the original's recorded graph is fed with the encoded images, its labels random, which is
kind to it. `--size 400x32` is the canvas that loses no scene word; ours fits its canvas by itself.
"""

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--original", help="directory of the recorded graphs and original_speed.py")
    parser.add_argument("--mode", choices=("train", "test"), default="train")
    parser.add_argument("--size", choices=("160x60", "400x32"), default="160x60")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=65)
    parser.add_argument("--ours", metavar="DATASET", help=argparse.SUPPRESS)  # the child that measures our side
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(measure_ours(args)))
        return
    with tempfile.TemporaryDirectory() as directory:
        dataset = os.path.join(directory, "dataset.tfrecords")
        run([sys.executable, "-m", "aocr", "dataset", args.annotations, dataset, "--no-force-uppercase",
             "--log-path", ""])
        with open(args.annotations, encoding="utf-8") as file:
            images = [re.split(r"\s", line, maxsplit=1)[0] for line in file][:500]
        ours, original = [], []
        for number in range(1, args.rounds + 1):
            ours.append(json.loads(run([sys.executable, __file__, *sys.argv[1:], "--ours", dataset]))["rate"])
            told = f"round {number}: ours {ours[-1]:.1f} images/s"
            if args.original:
                original.append(measure_original(args, images))
                told += f", original {original[-1]:.1f}, ratio {ours[-1] / original[-1]:.2f}"
            print(told, flush=True)
    told = f"{args.mode} {args.size}: ours {statistics.median(ours):.1f} images/s"
    if original:
        ratios = [a / b for a, b in zip(ours, original)]
        told += (f", original {statistics.median(original):.1f}; ratio: median {statistics.median(ratios):.2f}, "
                 f"{min(ratios):.2f} to {max(ratios):.2f}")
    print(told)


def run(command):
    """Runs a command; its standard output."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def measure_original(args, images):
    """Images a second of the original's recorded graph: the median of its steps."""
    steps = args.steps if args.mode == "train" else args.steps * 20
    output = run([sys.executable, os.path.join(args.original, "original_speed.py"),
                  f"original-{args.mode}-{args.size}", *images, "--steps", str(steps), "--batch", str(args.batch)])
    return float(re.search(r"images/s median ([0-9.]+)", output).group(1))


def measure_ours(args):
    """{"rate": images a second} of our graph, its input pipeline included."""
    from aocr.commands.runtime import quiet_tensorflow

    quiet_tensorflow(in_batches=True)
    from aocr.config import TrainConfig
    from aocr.data import fit, pipeline, records
    from aocr.model import Model

    scan = records.scan(args.ours)
    config, _ = fit.fit_config(scan, {"max_width": 400, "max_height": 32} if args.size == "400x32" else {})
    charset, _ = fit.fit_charset(scan, full_ascii=False)

    batches = functools.partial(pipeline.batches, scan, batch_size=args.batch,
                                image_bytes=config.image_bytes)

    training = TrainConfig() if args.mode == "train" else None
    with Model(config, charset, batches=batches, training=training) as model:
        model.initialize()
        if args.mode == "train":
            return {"rate": train_rate(model, args.steps, scan.usable // args.batch)}
        started = time.perf_counter()
        samples = sum(1 for _ in model.read())
        return {"rate": samples / (time.perf_counter() - started)}


def train_rate(model, steps, epoch_steps):
    """Images a second: over whole epochs' worth of steps where widths differ, so that every width has its share."""
    images, seconds, epoch = 0, 0.0, 0
    wanted = max(steps, epoch_steps if epoch_steps <= 40 else steps)
    done = -1  # the first step warms up
    while done < wanted:
        started = time.perf_counter()
        for step, _ in model.train(epoch):
            if done >= 0:
                images += len(step.numbers)
                seconds += time.perf_counter() - started
            done += 1
            started = time.perf_counter()
            if done >= wanted:
                break
        epoch += 1
    return images / seconds


if __name__ == "__main__":
    main()
