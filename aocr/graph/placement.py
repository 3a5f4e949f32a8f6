"""Where the parts of a training graph run: on the devices of one process, and on the parameter servers of a cluster."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

VARIABLE = "VarHandleOp"  # the op that a variable is, and that TensorFlow places by


class Placement(NamedTuple):
    """Where a training graph runs; by default all of it where TensorFlow likes."""

    target: str = ""  # of the session; '' for this process
    outer: Callable = None  # device function of the whole graph
    towers: tuple = ("",)  # devices that share each batch
    variables: str = ""  # device of the variables, unless `outer` says it
    meetings: tuple = ()  # devices where the gradients of several processes meet; none if each updates by itself

    def tower(self, k):
        """Device scope of the k-th tower. Its variables, which the others use too, are not on its device."""
        if len(self.towers) == 1:
            return tf.device(self.towers[0] or None)
        return tf.device(lambda op: self.variables if op.type == VARIABLE else self.towers[k])


def towers(count):
    """The devices of so many towers: GPUs, where this machine has any, else as many virtual CPUs."""
    if count == 1:
        return ("",)
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tuple(f"/device:{kind}:{k}" for k in range(count))


def in_process(count):
    """The Placement of a process that trains alone, on so many GPUs."""
    devices = towers(count)
    return Placement(towers=devices, variables=devices[0])


def in_cluster(target, servers, device, towers, sync):
    """The Placement of one process of a cluster.

    Args:
      target: str, its session's. servers: int, the number of parameter servers. device: str, the process's own.
      towers: as in Placement. sync: bool, whether the processes' gradients meet.
    """
    def server(k):
        return f"/job:ps/task:{k}"

    outer = tf.train.replica_device_setter(ps_tasks=servers, ps_device="/job:ps", worker_device=device)
    return Placement(target, outer, towers, "", tuple(map(server, range(servers))) if sync else ())
