"""Where the parts of a training graph run: on the devices of one process, and on the parameter servers of a cluster."""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

VARIABLE = "VarHandleOp"  # the op that a variable is, and that TensorFlow places by


class Placement(NamedTuple):
    """Where a training graph runs; by default all of it where TensorFlow likes."""

    target: str = ""  # of the session; '' for this process
    outer: Callable[[tf.Operation], str] | None = None  # device function of the whole graph
    towers: tuple[str, ...] = ("",)  # devices that share each batch
    variables: str = ""  # device of the variables, unless `outer` says it
    accumulators: tuple[str, ...] = ()  # where the gradients of several processes meet; none if each updates by itself

    def tower(self, k: int) -> contextlib.AbstractContextManager:
        """Device scope of the k-th tower. Its variables, which the others use too, are not on its device."""
        if len(self.towers) == 1:
            return contextlib.nullcontext()
        return tf.device(lambda op: self.variables if op.type == VARIABLE else _settled(op) or self.towers[k])


def towers(count: int) -> tuple[str, ...]:
    """The devices of so many towers: GPUs, where this machine has any, else as many virtual CPUs."""
    if count == 1:
        return ("",)
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tuple(f"/device:{kind}:{k}" for k in range(count))


def in_process(count: int) -> Placement:
    """The Placement of a process that trains alone, on so many GPUs."""
    devices = towers(count)
    return Placement(towers=devices, variables=devices[0])


def in_cluster(target: str, servers: int, device: str, towers: tuple[str, ...], sync: bool) -> Placement:
    """The Placement of one process of a cluster.

    Args:
      target: its session's. servers: the number of parameter servers. device: the process's own.
      towers: as in Placement. sync: whether the processes' gradients meet.
    """
    places = _Servers(servers)

    def outer(op):
        if op.type == VARIABLE:
            return places.of(op)
        own = tf.DeviceSpec.from_string(_settled(op))
        return own.to_string() if own.job else tf.DeviceSpec.from_string(device).make_merged_spec(own).to_string()

    return Placement(target, outer, towers, "", places.names if sync else ())


def _settled(op):
    """The device that an op has already, or that of a variable that it uses; '' if neither."""
    used = (tensor.op.device for tensor in op.inputs if tensor.dtype == tf.resource and tensor.op.type == VARIABLE)
    return op.device or next(used, "")


class _Servers:
    """Spreads variables over parameter servers, in the same way in each process that builds the same graph."""

    def __init__(self, count):
        self.names = tuple(f"/job:ps/task:{k}" for k in range(count))
        self._sizes = dict.fromkeys(self.names, 0)
        self._found = {}

    def of(self, op):
        """The server of a variable: that of the weight that it is about (of its name's middle), else that with the
        least so far.
        """
        weight = op.name.partition("/")[2].rpartition("/")[0]
        server = self._found.get(weight) or min(self.names, key=self._sizes.get)
        self._found[op.name] = server
        self._sizes[server] += math.prod(dim.size for dim in op.get_attr("shape").dim)
        return server
