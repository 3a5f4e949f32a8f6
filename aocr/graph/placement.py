"""Places the parts of a training graph: on the devices of one process, and on the parameter servers of a cluster."""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

VARIABLE = "VarHandleOp"  # op type of a variable's handle, by which TensorFlow places the variable


class Placement(NamedTuple):
    """Where a training graph runs; by default, where TensorFlow places it."""

    target: str = ""  # of the session; '' for this process
    outer: Callable[[tf.Operation], str] | None = None  # device function of the whole graph
    towers: tuple[str, ...] = ("",)  # devices that share each batch
    variables: str = ""  # device of the variables, unless `outer` sets it
    accumulators: tuple[str, ...] = ()  # devices that collect the processes' gradients; none if each updates by itself

    def tower(self, k: int) -> contextlib.AbstractContextManager:
        """Returns the device scope of the k-th tower. Variables, which all towers share, are not on its device."""
        if len(self.towers) == 1:
            return contextlib.nullcontext()
        return tf.device(lambda op: self.variables if op.type == VARIABLE else _settled(op) or self.towers[k])


def towers(count: int) -> tuple[str, ...]:
    """Returns the devices of `count` towers: GPUs if the machine has any, else virtual CPUs."""
    if count == 1:
        return ("",)
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tuple(f"/device:{kind}:{k}" for k in range(count))


def in_process(count: int) -> Placement:
    """Returns the Placement of a process that trains alone, on `count` GPUs."""
    devices = towers(count)
    return Placement(towers=devices, variables=devices[0])


def in_cluster(target: str, servers: int, device: str, towers: tuple[str, ...], sync: bool) -> Placement:
    """Returns the Placement of one process of a cluster.

    Args:
      target: of its session. servers: number of parameter servers. device: of the process. towers: as in Placement.
      sync: collect the processes' gradients on the servers.
    """
    places = _Servers(servers)

    def outer(op):
        if op.type == VARIABLE:
            return places.of(op)
        own = tf.DeviceSpec.from_string(_settled(op))
        return own.to_string() if own.job else tf.DeviceSpec.from_string(device).make_merged_spec(own).to_string()

    return Placement(target, outer, towers, "", places.names if sync else ())


def _settled(op):
    """Returns the device already set for an op or for a variable that it uses; '' if neither is set."""
    used = (tensor.op.device for tensor in op.inputs if tensor.dtype == tf.resource and tensor.op.type == VARIABLE)
    return op.device or next(used, "")


class _Servers:
    """Spreads variables over parameter servers, identically in each process that builds the same graph."""

    def __init__(self, count):
        self.names = tuple(f"/job:ps/task:{k}" for k in range(count))
        self._sizes = dict.fromkeys(self.names, 0)
        self._found = {}

    def of(self, op):
        """Returns a variable's server: that of the weight it belongs to (the middle of its name), else the least
        loaded.
        """
        weight = op.name.partition("/")[2].rpartition("/")[0]
        server = self._found.get(weight) or min(self.names, key=self._sizes.get)
        self._found[op.name] = server
        self._sizes[server] += math.prod(dim.size for dim in op.get_attr("shape").dim)
        return server
