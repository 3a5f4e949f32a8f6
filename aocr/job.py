"""Settings that job services pass in the environment: output directories and the cluster of the run."""

import json
import os
from typing import NamedTuple

from aocr.data.shard import Shard
from aocr.errors import UserError

CLUSTER = "TF_CONFIG"
CHECKPOINT_DIR = "AIP_CHECKPOINT_DIR"
LOG_DIR = "AIP_TENSORBOARD_LOG_DIR"
EXPORT_DIR = "AIP_MODEL_DIR"

PARAMETER_SERVER, WORKER, EVALUATOR = "ps", "worker", "evaluator"
CHIEFS = ("chief", "master")  # synonyms
EXAMPLE = '{"cluster": {"chief": ["a:2222"], "ps": ["b:2222"]}, "task": {"type": "chief", "index": 0}}'


def setting(variable: str) -> str | None:
    """Returns the value of an environment variable; None if it is unset or empty."""
    return os.environ.get(variable) or None


class Task(NamedTuple):
    """One process of a distributed run."""

    cluster: dict[str, list[str]]  # addresses of each job's processes: chief or master, worker, ps
    job: str  # this process's: one of these, or `evaluator`, which is in no cluster
    index: int  # type: ignore[assignment]  # in its job; hides tuple.index, which is not needed

    @property
    def name(self) -> str:
        """The task's name in messages."""
        return f"{self.job} {self.index}"

    @property
    def device(self) -> str:
        """This process's TensorFlow device name."""
        return f"/job:{self.job}/task:{self.index}"

    @property
    def servers(self) -> list[str]:
        """Addresses of the parameter servers."""
        return self.cluster.get(PARAMETER_SERVER, [])

    @property
    def replicas(self) -> list[tuple[str, int]]:
        """(job, index) of each process that trains, the chief first."""
        return [(job, index) for job in (*CHIEFS, WORKER) for index in range(len(self.cluster.get(job, [])))]

    @property
    def shard(self) -> Shard:
        """The shard of the data that this process trains on: its number among the replicas, and their count."""
        return Shard(self.replicas.index((self.job, self.index)), len(self.replicas))

    @property
    def is_chief(self) -> bool:
        """Whether this is the only process that writes; without a chief, the first worker acts as one."""
        return self.replicas[:1] == [(self.job, self.index)]


def task_of(text: str | None) -> Task | None:
    """Returns the Task that a TF_CONFIG describes; None for a process that trains alone. Unknown keys are ignored.

    Raises: UserError if it is malformed, or if the cluster cannot train.
    """
    if not text:
        return None
    values = _parsed(text)
    cluster, task = values.get("cluster") or {}, values.get("task") or {}
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise _malformed("`cluster` and `task` must be objects")
    cluster = {job: _addresses(job, cluster[job]) for job in (*CHIEFS, WORKER, PARAMETER_SERVER) if cluster.get(job)}
    if task.get("type") == EVALUATOR:
        return Task(cluster, EVALUATOR, _index(task))
    if sum(map(len, cluster.values())) <= 1 and PARAMETER_SERVER not in cluster:
        return None
    _check(cluster)
    job, index = task.get("type"), _index(task)
    if job not in cluster:
        raise _malformed(f"`task.type` is {job!r}; the jobs of `cluster` are {', '.join(cluster)}; use one of "
                         f"them, or {EVALUATOR}")
    if index >= len(cluster[job]):
        raise _malformed(f"`task.index` is {index}, but the length of `cluster.{job}` is {len(cluster[job])}")
    return Task(cluster, str(job), index)


def _parsed(text):
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _malformed(f"invalid JSON ({error})") from None
    if not isinstance(values, dict):
        raise _malformed(f"{text[:40]!r} is not an object")
    return values


def _addresses(job, value):
    if not isinstance(value, list) or not all(isinstance(one, str) and one.rpartition(":")[2].isdigit()
                                              and one.rpartition(":")[0] for one in value):
        raise _malformed(f"`cluster.{job}` must be a list of HOST:PORT, not {json.dumps(value)[:60]}")
    return value


def _index(task):
    index = task.get("index", 0)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise _malformed(f"`task.index` is {json.dumps(index)}; use an integer from 0")
    return index


def _check(cluster):
    """Raises UserError if the cluster cannot train."""
    chiefs = [job for job in CHIEFS for _ in cluster.get(job, [])]
    if len(chiefs) > 1:
        raise _malformed(f"there are {len(chiefs)} chiefs ({', '.join(chiefs)}); keep one")
    if not chiefs and WORKER not in cluster:
        raise _malformed("no process in `cluster` trains; add a chief")
    if PARAMETER_SERVER not in cluster:
        raise _malformed("`cluster` has several replicas, but no ps to hold their weights; add one")


def _malformed(what):
    return UserError(f"{CLUSTER}: {what}. Set it like {EXAMPLE}, or unset it to train in one process", exit_code=2)
