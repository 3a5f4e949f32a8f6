"""Measures `aocr serve` on loopback: rates and latencies, then a mixed load with a reload in its middle.

    python benchmarks/serving.py MODEL_DIR IMAGE... [--original DIR] [--seconds 60] [--clients 16] [--rate-seconds 10]

Exports the model, serves it in a process of its own, and sends requests of one image from threads here.

Rates: 1, 8 and 32 clients, each round interleaved with the original's recorded test graph, which reads the same images
one by one, in this process and without HTTP; ratios compare the medians of the rounds.

Mixed load: good, broken, huge (too many pixels, too many bytes) and slow requests; a new version appears at half time.
Prints how many requests got which status, how many were lost, and the memory of the server.
"""

import argparse
import base64
import collections
import http.client
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit

from latency import original_reader
from PIL import Image

from aocr.commands.runtime import quiet_tensorflow

PREDICT = "/v1/models/aocr:predict"
CLIENTS, ROUNDS = (1, 8, 32), 3
MOST_BODY = 2_000_000  # bytes
SHARES = {"good": 80, "broken": 10, "many pixels": 3, "many bytes": 2, "slow": 5}
EXPECTED = {"good": 200, "broken": 400, "many pixels": 400, "many bytes": 413, "slow": 200}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--original", help="directory of the recorded graphs")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the mixed load; 0 for none")
    parser.add_argument("--clients", type=int, default=16, help="of the mixed load")
    parser.add_argument("--rate-seconds", type=float, default=10.0, help="of a round; 0 for none")
    args = parser.parse_args()
    args.max_width, args.max_height = 160, 60  # of the original's graph
    quiet_tensorflow()
    images = [read_file(path) for path in args.images]
    with tempfile.TemporaryDirectory() as directory:
        exported = os.path.join(directory, "exported")
        aocr("export", exported, "--model-dir", args.model_dir, "--model-version", "1")
        started = time.perf_counter()
        process = subprocess.Popen(
            command("serve", exported, "--port", "0", "--poll-seconds", "0.2", "--max-body-bytes", str(MOST_BODY)),
            stdout=subprocess.PIPE, text=True)
        try:
            url = process.stdout.readline().strip()
            one_request(url, body_of(images[0]), False)
            print(f"start to first answer: {time.perf_counter() - started:.1f} s")
            if args.rate_seconds:
                measure_rates(url, images, args)
            if args.seconds:
                mixed_load(url, process.pid, images, exported, args)
        finally:
            process.terminate()
            print(f"exit code after SIGTERM: {process.wait()}")


def command(*arguments):
    return [sys.executable, "-m", "aocr", *arguments, "--log-path", ""]


def aocr(*arguments):
    subprocess.run(command(*arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def body_of(image):
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode()


# ---- rates

def measure_rates(url, images, args):
    bodies = [body_of(image) for image in images]
    original = original_reader(args) if args.original else None
    for clients in CLIENTS:  # the warm-up
        rate_of(url, bodies, clients, 1.0)
    for image in images[:20] if original else ():
        original(image)
    found = {clients: [] for clients in CLIENTS}
    theirs = []
    for _ in range(ROUNDS):
        for clients in CLIENTS:
            found[clients].append(rate_of(url, bodies, clients, args.rate_seconds))
        if original:
            theirs.append(one_by_one(original, images, args.rate_seconds))
    base = statistics.median(rate for rate, _, _ in theirs) if theirs else None
    if base:
        print("original, one by one:   " + line_of(theirs))
    for clients, rounds in found.items():
        ratio = f", {statistics.median(rate for rate, _, _ in rounds) / base:.2f} x the original" if base else ""
        print(f"aocr serve, {clients:2d} clients: {line_of(rounds)}{ratio}")


def line_of(rounds):
    rate, middle, high = (statistics.median(values) for values in zip(*rounds))
    return f"{rate:.1f} images/s, p50 {middle:.1f} ms, p99 {high:.1f} ms"


def summary(milliseconds, seconds):
    ordered = sorted(milliseconds)
    return len(ordered) / seconds, ordered[len(ordered) // 2], ordered[int(0.99 * len(ordered))]


def one_by_one(read, images, seconds):
    milliseconds, started = [], time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        read(images[len(milliseconds) % len(images)])
        milliseconds.append(1000 * (time.perf_counter() - now))
    return summary(milliseconds, time.perf_counter() - started)


def rate_of(url, bodies, clients, seconds):
    """Returns images a second, and the percentiles 50 and 99 of the latency in milliseconds."""
    milliseconds, end = [], time.perf_counter() + seconds

    def send(number):
        connection, k = connect(url), number
        while (now := time.perf_counter()) < end:
            connection.request("POST", PREDICT, bodies[k % len(bodies)])
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            milliseconds.append(1000 * (time.perf_counter() - now))
            k += clients
        connection.close()

    started = time.perf_counter()
    in_threads(send, clients)
    return summary(milliseconds, time.perf_counter() - started)


def connect(url):
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)


def in_threads(function, count):
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---- the mixed load

def mixed_load(url, pid, images, exported, args):
    counts, memory = collections.Counter(), []
    end = time.perf_counter() + args.seconds
    bodies = {"good": [body_of(image) for image in images], "broken": [body_of(image[:60]) for image in images],
              "many pixels": [body_of(huge_image())], "many bytes": [body_of(bytes(2 * MOST_BODY))]}
    bodies["slow"] = bodies["good"]

    def send(number):
        chance = random.Random(number)
        while time.perf_counter() < end:
            kind, = chance.choices(list(SHARES), SHARES.values())
            try:
                counts[kind, one_request(url, chance.choice(bodies[kind]), kind == "slow")] += 1
            except (OSError, http.client.HTTPException) as error:
                counts[kind, f"lost: {error!r}"] += 1

    def watch():
        shutil.copytree(os.path.join(exported, "1"), os.path.join(exported, "next"))
        started = time.perf_counter()
        while (now := time.perf_counter()) < end:
            if now - started > args.seconds / 2 and not os.path.exists(os.path.join(exported, "2")):
                os.rename(os.path.join(exported, "next"), os.path.join(exported, "2"))
            memory.append(resident(pid))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    in_threads(send, args.clients)
    watcher.join()
    for (kind, status), count in sorted(counts.items(), key=str):
        print(f"{kind}: {status}: {count}{'' if status == EXPECTED[kind] else '  UNEXPECTED'}")
    total = sum(counts.values())
    errors = sum(count for (_, status), count in counts.items() if isinstance(status, int) and status >= 500)
    lost = sum(count for (_, status), count in counts.items() if isinstance(status, str))
    print(f"requests: {total}; status 5xx: {errors}; lost: {lost}")
    connection = connect(url)
    connection.request("GET", "/v1/models/aocr")
    states = json.loads(connection.getresponse().read())["model_version_status"]
    print("versions:", ", ".join(f"{one['version']} {one['state']}" for one in states))
    fifth = len(memory) // 5
    print("memory of the server (MiB), mean of each fifth of the time:",
          *(f"{statistics.mean(memory[k * fifth:(k + 1) * fifth]):.0f}" for k in range(5)))


def huge_image():
    """A small file of 10,000 x 6,000 pixels."""
    file = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(file, "PNG")
    return file.getvalue()


def one_request(url, body, slow):
    """Sends a request, in pieces for two seconds if `slow`; returns the status."""
    connection = connect(url)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    pieces = 8 if slow else 1
    for k in range(pieces):
        connection.send(body[k * len(body) // pieces:(k + 1) * len(body) // pieces])
        if slow:
            time.sleep(0.25)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def resident(pid):
    """Returns the memory of a process that is not swapped out, in MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main()
