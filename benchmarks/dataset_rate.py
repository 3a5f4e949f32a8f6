"""Measures rows per second and peak memory of `aocr dataset` as the annotation file grows.

    python benchmarks/dataset_rate.py --annotations FILE [--rows 10000 100000]

FILE's lines are repeated up to each number of rows. Every image is decoded and checked. Memory is flat if the last
figure is near the first.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[10000, 100000])
    args = parser.parse_args()
    with open(args.annotations, encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as directory:
            annotations = os.path.join(directory, "annotations.txt")
            with open(annotations, "w", encoding="utf-8") as file:
                file.writelines(itertools.islice(itertools.cycle(lines), rows))
            seconds, memory = build(annotations, os.path.join(directory, "dataset.tfrecords"))
        print(f"{rows} rows: {rows / seconds:.0f} rows/s ({seconds:.1f} s, start-up included), {memory:.0f} MB",
              flush=True)


def build(annotations, dataset):
    """Builds a dataset. Returns (seconds, peak memory in MB)."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "aocr", "--log-path", "", "dataset", annotations, dataset],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"aocr dataset exited with code {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
