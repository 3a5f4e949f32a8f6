"""Breaks down the time of one training step, in percent, by stage and by kind of op.

    python benchmarks/timeline.py [--width 86] [--batch 65] [--precision float32] [--trace FILE.json]

Ops run in parallel on several cores, so their times add up to more than the step's. Open FILE in chrome://tracing or
https://ui.perfetto.dev.
"""

import argparse
import collections
import re
import statistics
import time

from aocr.charset import charset_for
from aocr.commands.runtime import quiet_tensorflow
from aocr.config import ModelConfig, TrainConfig

WARM_UP, ROUNDS, LISTED = 3, 5, 12
# the first pattern that matches a node's name gives its stage
STAGES = (("optimizer", r"^training/(?!gradients)"), ("cnn", r"cnn/|Conv2D"), ("encoder", r"encoder|IdentityN"),
          ("ctc", r"ctc"), ("decoder", r"decode"), ("input", r"batches|Iterator"), ("rest", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=86)
    parser.add_argument("--batch", type=int, default=65)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--trace", help="JSON file to write the last step to, as a timeline")
    args = parser.parse_args()
    quiet_tensorflow(in_batches=True)
    import tensorflow.compat.v1 as tf
    from noise import NoiseSource
    from tensorflow.python.client.timeline import Timeline

    from aocr.network import Network
    from aocr.training.graph import open_training_graph

    config, charset = ModelConfig(), charset_for(())
    source = NoiseSource(args.batch, args.width, config.max_prediction + 1, len(charset))
    stages, kinds, seconds = collections.Counter(), collections.Counter(), []
    training = TrainConfig(ctc_weight=0.2)
    with open_training_graph(Network(config, charset), source, training, precision=args.precision) as graph:
        graph.initialize()
        graph.model.inputs.start(graph.session)
        for number in range(-WARM_UP, ROUNDS):
            traced = tf.RunMetadata()
            started = time.perf_counter()
            graph.session.run(graph.train_ops.train_op, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                              run_metadata=traced)
            if number < 0:
                continue
            seconds.append(time.perf_counter() - started)
            for node in (node for device in traced.step_stats.dev_stats for node in device.node_stats):
                kind = re.sub(r"^.* = |\(.*", "", node.timeline_label) or node.node_name
                stage = next(name for name, pattern in STAGES if re.search(pattern, node.node_name))
                back = " backward" if "gradients" in node.node_name else ""
                stages[stage + back] += node.op_end_rel_micros
                kinds[kind] += node.op_end_rel_micros
    total = sum(stages.values())
    print(f"step: {statistics.median(seconds):.3f} s; sum of its ops: {1e-6 * total / ROUNDS:.3f} s, of which")
    for table in (stages, kinds):
        print(", ".join(f"{name} {100 * spent / total:.1f}%" for name, spent in table.most_common(LISTED)))
    if args.trace:
        with open(args.trace, "w", encoding="utf-8") as file:
            file.write(Timeline(traced.step_stats).generate_chrome_trace_format(show_dataflow=False))


if __name__ == "__main__":
    main()
