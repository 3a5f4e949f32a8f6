"""Compares throughput and peak memory with the original, interleaved (A B A B), each run in a separate process.

    python benchmarks/against_original.py --annotations FILE [--original DIR] [--mode train|test] [--size 160x60]

FILE is an annotation file; both sides read its images. Ours reads labelled records from disk through the whole input
pipeline; the original's recorded graph is fed encoded images with random labels, which favours it. The canvas of
`--size 400x32` fits every scene word.

Training counts warm steps. Test counts the whole process: `aocr test` on our side, the bare graph, with nothing to
restore or report, on the other. Our model is trained for one step only, so it seldom emits EOS. `--precision` applies
to our side.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

AOCR = [sys.executable, "-m", "aocr", "--log-path", ""]
ORIGINAL = ("--cnn", "original", "--attn-num-layers", "2", "--attention-units", "0", "--ctc-weight", "0")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--original", help="directory of the recorded graphs and original_speed.py")
    parser.add_argument("--mode", choices=("train", "test"), default="train")
    parser.add_argument("--size", choices=("160x60", "400x32"), default="160x60")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=65)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--network", choices=("original", "default"), default="default")
    parser.add_argument("--ours", metavar="DATASET", help=argparse.SUPPRESS)  # the child that measures our side
    args = parser.parse_args()
    if args.ours:
        print(train_ours(args))
        return
    with tempfile.TemporaryDirectory() as directory:
        dataset, model = os.path.join(directory, "dataset.tfrecords"), os.path.join(directory, "model")
        run([*AOCR, "dataset", args.annotations, dataset, "--no-force-uppercase"])
        with open(args.annotations, encoding="utf-8") as file:
            images = [re.split(r"\s", line, maxsplit=1)[0] for line in file]
        if args.mode == "test":
            width, height = args.size.split("x")
            run([*AOCR, "train", dataset, "--model-dir", model, "--max-steps", "1", "--batch-size", "2",
                 "--max-width", width, "--max-height", height, *(ORIGINAL if args.network == "original" else ())])
        ours, original = [], []
        for number in range(1, args.rounds + 1):
            ours.append(our_run(args, dataset, model, len(images)))
            line = f"round {number}: ours {ours[-1][0]:.1f} images/s, {ours[-1][1]:.0f} MB"
            if args.original:
                original.append(original_run(args, images))
                line += f"; original {original[-1][0]:.1f}, {original[-1][1]:.0f} MB"
            print(line, flush=True)
    rate, memory = (statistics.median(values) for values in zip(*ours))
    print(f"{args.mode} {args.size}: ours {rate:.1f} images/s, {memory:.0f} MB")
    if original:
        print("original: {:.1f} images/s, {:.0f} MB".format(*map(statistics.median, zip(*original))))
        for what, k in (("rate", 0), ("memory", 1)):
            ratios = [a[k] / b[k] for a, b in zip(ours, original)]
            print(f"ratio of {what}: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


def run(command):
    """Runs a command. Returns (stdout, seconds, peak memory in MB)."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ... exited with code {process.returncode}")
    return output, time.perf_counter() - started, usage.ru_maxrss / 1024


def our_run(args, dataset, model, count):
    """Returns (images per second, peak memory in MB) of our side."""
    if args.mode == "train":
        output, _, memory = run([sys.executable, __file__, *sys.argv[1:], "--ours", dataset])
        return float(output), memory
    _, seconds, memory = run([*AOCR, "test", dataset, "--model-dir", model, "--precision", args.precision])
    return count / seconds, memory


def original_run(args, images):
    """Returns the same for the original's recorded graph."""
    steps = args.steps if args.mode == "train" else len(images) - 1  # plus one warm-up step
    output, seconds, memory = run([
        sys.executable, os.path.join(args.original, "original_speed.py"), f"original-{args.mode}-{args.size}", *images,
        "--steps", str(steps), "--batch", str(args.batch)])
    if args.mode == "train":
        return float(re.search(r"images/s median ([0-9.]+)", output).group(1)), memory
    return len(images) / seconds, memory


def train_ours(args):
    """Returns the images per second of our training, input pipeline included."""
    from aocr.commands.runtime import quiet_tensorflow

    quiet_tensorflow(in_batches=True)
    from aocr.config import TrainConfig
    from aocr.data import fit, scanning
    from aocr.data.pipeline import Source
    from aocr.network import Network
    from aocr.original import NETWORK
    from aocr.training.graph import open_training_graph

    scan = scanning.scan(args.ours)
    given = dict(max_width=400, max_height=32) if args.size == "400x32" else {}
    config, _ = fit.fit_config(scan, dict(given, **(NETWORK if args.network == "original" else {})))
    charset, _ = fit.fit_charset(scan)
    training = TrainConfig(optimizer="adadelta", ctc_weight=0.2 if config.ctc else 0.0)
    source = Source(scan, args.batch)
    with open_training_graph(Network(config, charset), source, training, precision=args.precision) as graph:
        graph.initialize()
        return train_rate(graph, args.steps, scan.usable // args.batch)


def train_rate(graph, steps, epoch_steps):
    """Returns the images per second, over a whole epoch if it is short, so that every width has its share."""
    wanted = epoch_steps if steps <= epoch_steps <= 40 else steps
    run_steps = graph.train(epochs=wanted + 1)  # an epoch has at least one step
    next(run_steps)  # warm-up
    started = time.perf_counter()
    images = sum(len(step.numbers) for step in itertools.islice(run_steps, wanted))
    return images / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
