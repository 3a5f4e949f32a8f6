"""Measures cold start-up, interleaved: `aocr --help`, `import tensorflow`, `aocr predict` of one file, and `aocr train`
to its first update.

    python benchmarks/start_up.py --model-dir MODEL --dataset DATASET IMAGE
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--model-dir", required=True)
    parser.add_argument("--dataset", required=True)
    args = parser.parse_args()
    aocr = [os.path.join(os.path.dirname(sys.executable), "aocr")]
    commands = {
        "aocr --help": [*aocr, "--help"],
        "import tensorflow": [sys.executable, "-c", "import tensorflow.compat.v1"],
        "aocr predict": [*aocr, "predict", "--model-dir", args.model_dir, "--log-path", "", args.image],
        "aocr train": [*aocr, "train", args.dataset, "--log-path", "", "--log-step", "1"],
    }
    seconds = {name: [] for name in commands}
    for number in range(-1, ROUNDS):  # the first round fills the disk cache
        for name, command in commands.items():
            took = to_first_update(command) if name == "aocr train" else whole(command)
            if number >= 0:
                seconds[name].append(took)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, {min(seconds[name]):.2f} to {max(seconds[name]):.2f}")
    for name in ("aocr predict", "aocr train"):
        print(f"{name} beyond the import: {medians[name] - medians['import tensorflow']:.2f} s")


def whole(command):
    """Returns the seconds until a command exits."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def to_first_update(command):
    """Returns the seconds until `aocr train` logs its first step."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        with subprocess.Popen([*command, "--model-dir", directory], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as process:
            for line in process.stderr:
                if "step 1:" in line:
                    took = time.perf_counter() - started
                    process.kill()
                    return took
    raise SystemExit(f"{' '.join(command)}: ended without a first step")


if __name__ == "__main__":
    main()
