"""What beam, lexicon and pattern bring, and what they cost: one model, one dataset, several searches in one run.

    python benchmarks/searches.py MODEL DATASET '' '--beam 4' '--lexicon words.txt' ...

Each search is a list of options of `aocr test`. Prints exact match, CER, images a second, and milliseconds of CPU time
an image (of all cores together, which other programs disturb less), after a first run over some of the images.
"""

import argparse
import itertools
import shlex
import time

from aocr.commands.flags import add_options, collect
from aocr.commands.runtime import quiet_tensorflow, session_config
from aocr.config import SearchConfig, TestConfig
from aocr.metrics import edit_distance

WARM_UP = 100  # images


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("searches", nargs="+")
    parser.add_argument("--decoding")
    args = parser.parse_args()
    quiet_tensorflow(in_batches=True)
    from aocr.checkpoint import find_model
    from aocr.data.scanning import scan

    trained = find_model(args.model, {}, decoding=args.decoding)
    data = scan(args.dataset, max_pixels=trained.config.max_pixels)
    options = argparse.ArgumentParser()
    add_options(options, SearchConfig)
    print("| search | exact match | CER | images/s | CPU ms/image | seconds to build |")
    print("| --- | --- | --- | --- | --- | --- |")
    for search in args.searches:
        config = collect(options.parse_args(shlex.split(search)), SearchConfig)
        print(f"| {search or 'greedy'} |", " | ".join(measured(trained, data, config)), "|", flush=True)


def measured(trained, data, config):
    """Returns the formatted figures of one search."""
    from aocr.data.pipeline import Source

    started = time.process_time()
    search = trained.search(config)
    built = time.process_time() - started
    with trained.open(source=Source(data, TestConfig().batch_size), search=search,
                      session_config=session_config(-1)) as model:
        list(itertools.islice(model.read(), WARM_UP))
        wall, cpu = time.monotonic(), time.process_time()
        found = list(model.read())
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    exact = sum(one.text == one.label for one in found) / len(found)
    edits = sum(edit_distance(one.text, one.label) for one in found)
    return (f"{exact:.1%}", f"{edits / sum(len(one.label) for one in found):.1%}", f"{len(found) / wall:.1f}",
            f"{1000 * cpu / len(found):.1f}", f"{built:.1f}")


if __name__ == "__main__":
    main()
