"""Trains on real jobs for a fixed wall time with the defaults, and tests the resulting models.

    python benchmarks/jobs.py FOLDER... [--minutes 10] [--seeds 0] [--keep DIR] [--decodings] [-- FLAG...]
    python benchmarks/jobs.py FOLDER... --train-command COMMAND [--test-command COMMAND] ...

FOLDER is a job, or holds jobs. A job is `train.tsv` and `test.tsv` (path, tab, label); or one `annotations.tsv`, or
`NAME.png` with `NAME.gt.txt`, of which every fifth (in table or name order) is held out for the test. Arguments after
`--` are passed to `aocr train`. Each run, and a final Markdown table, gives: samples, steps, images trained on, wall
seconds of the whole training process, exact match and CER on the test set, images per second of the test. A failed run
is reported with the end of its stderr; the others continue, and the exit code is 1.

Another program is measured by its command lines, with these placeholders: {train} and {test}, tables as above with
absolute paths; {images}, the job's folder of images; {minutes}; {seed}; {model}, an empty directory for the program;
{out}, the table of path, tab, text to write for the images of {test}. If `--test-command` writes it, images per second
include that whole process; those of aocr come from `aocr test`, without start-up. A training is killed after 1.5 times
the minutes plus 120 s.
"""

import argparse
import collections
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata

from aocr.config import DECODINGS
from aocr.metrics import Totals

HELD_OUT = 5  # one sample in this many
TEST_LIMIT = 3600.0  # seconds
TOLD_LINES = 3  # last lines of stderr in a failure report
COLUMNS = {"train": ".0f", "test": ".0f", "steps": ".0f", "images": ".0f", "train s": ".0f", "exact %": ".1f",
           "CER %": ".2f", "images/s": ".1f"}
# A task to learn. images: path of their folder. train, test: lists of (absolute path, label).
Job = collections.namedtuple("Job", ("name", "images", "train", "test"))


class Failed(Exception):
    """A run that cannot be measured."""


def main():
    args = parse(sys.argv[1:])
    jobs = [job for folder in args.folders for job in find_jobs(folder)]
    columns = COLUMNS | {method + name: COLUMNS[name] for method in args.methods for name in ("exact %", "CER %")}
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        sys.exit(f"two jobs have the same name: {', '.join(names)}")
    width = max(map(len, names))
    print("  ".join([f"{'job':{width}}", "seed", *(f"{name:>7}" for name in columns)]), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so `call` kills its child
    runs, failures = {name: {} for name in names}, 0
    with tempfile.TemporaryDirectory() as directory:
        for name, seed, outcome in all_runs(jobs, args, os.path.abspath(args.keep or directory)):
            row = "  ".join(f"{cell([outcome], *column):>{max(7, len(column[0]))}}" for column in columns.items())
            if "train s" in outcome:
                runs[name][seed] = outcome
                print(f"{name:{width}}  {seed:>4}  {row}", flush=True)
            if "failed" in outcome:
                failures += 1
                print(f"{name:{width}}  {seed:>4}  failed: {outcome['failed']}", flush=True)
    print(f"\n| job | seeds | {' | '.join(columns)} |\n{'| --- ' * (2 + len(columns))}|")
    for name, by_seed in runs.items():
        cells = " | ".join(cell(by_seed.values(), *column) for column in columns.items())
        print(f"| {name} | {', '.join(map(str, by_seed)) or 'failed'} | {cells} |")
    return 1 if failures else 0


def parse(arguments):
    """Parses the command line; `flags` are those after `--`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", metavar="DIR", help="keep datasets, models, readings and logs in this directory")
    parser.add_argument("--decodings", action="store_true", help="also test with each decoding")
    parser.add_argument("--train-command", metavar="COMMAND", help="train with this command instead of aocr")
    parser.add_argument("--test-command", metavar="COMMAND", help="writes {out}, if --train-command does not")
    args = parser.parse_args(arguments[:cut])
    args.flags = arguments[cut + 1:]
    args.methods = ("", *(f"{method} " for method in DECODINGS if args.decodings))  # "": the default
    args.limit = 1.5 * 60 * args.minutes + 120  # seconds of a training
    if (args.decodings or args.flags) if args.train_command else args.test_command:
        parser.error("--decodings and FLAG need aocr, --test-command needs --train-command")
    return args


def find_jobs(folder):
    """Returns the job in a folder, or those in its subfolders."""
    if not os.path.isdir(folder):
        sys.exit(f"{folder}: no such folder")
    below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    job = read_job(folder)
    return [job] if job else [job for job in map(read_job, below) if job] or sys.exit(f"{folder}: contains no job")


def read_job(folder):
    """Returns the job in a folder, or None."""
    folder = os.path.abspath(folder)
    name, there = os.path.basename(folder), set(os.listdir(folder))
    if {"train.tsv", "test.tsv"} <= there:
        tables = read_table(folder, "train.tsv"), read_table(folder, "test.tsv")
        return Job(name, os.path.join(folder, "images"), *tables)
    if "annotations.tsv" in there:
        rows = read_table(folder, "annotations.tsv")
    else:
        stems = sorted(file.removesuffix(".png") for file in there if file.endswith(".png"))
        rows = [(os.path.join(folder, stem + ".png"), as_label(read(folder, stem + ".gt.txt")))
                for stem in stems if stem + ".gt.txt" in there]
    train = [row for k, row in enumerate(rows) if k % HELD_OUT != HELD_OUT - 1]
    return Job(name, folder, train, rows[HELD_OUT - 1::HELD_OUT]) if rows else None


def read_table(folder, name):
    """Returns (absolute path, text) of each line of a table."""
    lines = [line.partition("\t") for line in read(folder, name).split("\n") if line.strip()]
    return [(os.path.normpath(os.path.join(folder, path)), as_label(text)) for path, _, text in lines]


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8-sig", errors="replace") as file:
        return file.read()


def as_label(text):
    """Normalizes a text as `aocr dataset` normalizes a label."""
    return unicodedata.normalize("NFC", text).strip()


def all_runs(jobs, args, directory):
    """Yields each run of each job: (job's name, seed, figures by column, with any error as `failed`)."""
    run = run_other if args.train_command else run_aocr
    for job in jobs:
        place, counts = os.path.join(directory, job.name), None
        for seed in args.seeds:
            own = os.path.join(place, f"seed-{seed}")
            try:
                os.makedirs(os.path.join(own, "model"))
                counts = counts or prepare(job, place, datasets=not args.train_command)
                yield job.name, seed, {**counts, **run(job, place, own, seed, args)}
            except (Failed, OSError) as error:
                yield job.name, seed, {"failed": error}
            if not args.keep:
                shutil.rmtree(own, ignore_errors=True)


def prepare(job, place, datasets):
    """Writes a job's tables and, with `datasets`, converts them. Returns the number of samples by column."""
    counts = {}
    for part, rows in (("train", job.train), ("test", job.test)):
        table = os.path.join(place, part + ".tsv")
        with open(table, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{image}\t{label}\n" for image, label in rows)
        counts[part] = len(rows)
        if datasets:
            _, values = aocr(os.path.join(place, f"dataset-{part}"), None, "dataset", "--no-force-uppercase", table,
                             os.path.join(place, part + ".tfrecords"))
            counts[part] = int(values["records"])
            if counts[part] < len(rows):
                print(f"{job.name}: aocr dataset used {counts[part]} of {len(rows)} {part} rows", file=sys.stderr)
    return counts


def run_aocr(job, place, own, seed, args):
    """Trains and tests with aocr. Returns figures by column."""
    model = os.path.join(own, "model")
    seconds, _ = aocr(os.path.join(own, "train"), args.limit, "train", os.path.join(place, "train.tfrecords"),
                      "--model-dir", model, "--max-minutes", f"{args.minutes:g}", "--seed", str(seed), *args.flags)
    summary = json.loads(read(model, "run.json"))
    images = summary.get("images") or summary["step"] * summary["flags"]["batch_size"]
    figures = {"steps": summary["step"], "images": images, "train s": seconds}
    for method in args.methods:
        try:
            _, values = aocr(os.path.join(own, f"{method}test".replace(" ", "-")), TEST_LIMIT, "test",
                             os.path.join(place, "test.tfrecords"), "--model-dir", model,
                             *(["--decoding", method.strip()] if method else []))
        except Failed as error:  # the model may lack a decoding
            figures["failed"] = error
            continue
        figures |= {f"{method}exact %": 100 * float(values["exact_match"]),
                    f"{method}CER %": 100 * float(values["cer"])}
        figures.setdefault("images/s", float(values["images_per_second"]))
    return figures


def aocr(files, limit, command, *arguments):
    """Runs an aocr command with `call`, its log beside `files`. Returns (seconds, dict of the printed values)."""
    seconds = call([sys.executable, "-m", "aocr", command, "--log-path", files + ".log", *arguments], files, limit)
    return seconds, dict(line.split(": ", 1) for line in read("", files + ".out").splitlines() if ": " in line)


def run_other(job, place, own, seed, args):
    """Trains and tests with another program. Returns figures by column."""
    values = dict(train=os.path.join(place, "train.tsv"), test=os.path.join(place, "test.tsv"), images=job.images,
                  minutes=f"{args.minutes:g}", seed=str(seed), model=os.path.join(own, "model"),
                  out=os.path.join(own, "out.tsv"))
    train, test = ([re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), word)
                    for word in shlex.split(command or "")] for command in (args.train_command, args.test_command))
    figures = {"train s": call(train, os.path.join(own, "train"), args.limit)}
    if test:
        figures["images/s"] = len(job.test) / call(test, os.path.join(own, "test"), TEST_LIMIT)
    texts = dict(read_table(own, "out.tsv"))
    if texts.keys().isdisjoint(image for image, _ in job.test):
        raise Failed(f"{values['out']} lists no test image")
    totals = Totals()
    for image, label in job.test:  # a missing image counts as read empty
        totals.add(texts.get(image, ""), label)
    metrics = totals.metrics()
    return {**figures, "exact %": 100 * metrics["exact_match"], "CER %": 100 * metrics["cer"]}


def call(command, files, limit):
    """Runs a command, with its output in FILES.out and FILES.err. Returns the seconds it took.

    Raises Failed on a non-zero exit code, or after `limit` seconds (None: no limit), when its process group is killed.
    """
    started = time.monotonic()
    with open(files + ".out", "wb") as out, open(files + ".err", "wb") as err, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True) as process:
        try:
            problem = process.wait(limit) and f"exited with code {process.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"was killed after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if problem:
        lines = [line.strip() for line in read("", files + ".err").splitlines() if line.strip()]
        raise Failed(" | ".join([f"{os.path.basename(files)} {problem}", *lines[-TOLD_LINES:]]))
    return time.monotonic() - started


def cell(runs, column, form):
    """Formats the mean of a column over runs, with each run's value if they differ."""
    values = [run[column] for run in runs if column in run]
    shown = [format(value, form) for value in values]
    if len(set(shown)) < 2:
        return shown[0] if shown else "-"
    return f"{sum(values) / len(values):{form}} ({', '.join(shown)})"


if __name__ == "__main__":
    sys.exit(main())
