"""The environment variables of job services."""

import json
import types

import pytest
from helpers import SMALL

from aocr import job
from aocr.cli import main
from aocr.commands import launch
from aocr.commands.train import check_options
from aocr.config import ParallelConfig, TrainConfig
from aocr.data.shard import Shard
from aocr.errors import UserError

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


def config(cluster, kind=None, index=None, **others):
    """Returns a TF_CONFIG."""
    task = {key: value for key, value in (("type", kind), ("index", index)) if value is not None}
    return json.dumps(dict(cluster=cluster, task=task, **others))


@pytest.mark.parametrize("text", [
    None, "", "{}", config({}), config(None), config({"chief": ["a:1"]}, "chief", 0),
    config({"master": ["a:1"]}, "master", 0), config({"worker": ["a:1"]}, "worker", 0),
    json.dumps({"environment": "cloud", "job": {"x": 1}})])
def test_a_process_that_trains_alone(text):
    assert job.task_of(text) is None


@pytest.mark.parametrize("kind, index, chief, replica", [
    ("chief", 0, True, (0, 3)), ("worker", 0, False, (1, 3)), ("worker", 1, False, (2, 3))])
def test_who_one_is(kind, index, chief, replica):
    task = job.task_of(config(CLUSTER, kind, index, environment="cloud", job={}))
    assert (task.is_chief, task.shard, task.servers) == (chief, replica, ["d:1"])
    assert task.device == f"/job:{kind}/task:{index}" and task.name == f"{kind} {index}"


def test_names_of_other_services():
    assert job.task_of(config({**CLUSTER, "tensorboard": ["t:1"]}, "ps", 0)).job == "ps"
    master = job.task_of(config({"master": ["a:1"], "ps": ["d:1"]}, "master", 0, trial="1"))
    assert master.is_chief and master.shard == (0, 1)
    first = {"worker": ["b:1", "c:1"], "ps": ["d:1"]}
    assert job.task_of(config(first, "worker", 0)).is_chief  # without a chief
    assert job.task_of(config(first, "worker", 1)).shard == (1, 2)
    for cluster in (CLUSTER, {}):
        evaluator = job.task_of(config(cluster, "evaluator", 0))
        assert evaluator.job == "evaluator" and not evaluator.is_chief


@pytest.mark.parametrize("text, message", [
    ("{", "invalid JSON"), ("[1]", "'[1]' is not an object"), ('{"cluster": []}', None),
    ('{"cluster": [1]}', "must be objects"),
    (config({"chief": "a:1", "ps": ["b:1"]}, "chief", 0), "`cluster.chief` must be a list of HOST:PORT"),
    (config({"chief": ["a"], "ps": ["b:1"]}, "chief", 0), "`cluster.chief` must be a list of HOST:PORT"),
    (config({"chief": ["a:1"], "master": ["b:1"], "ps": ["c:1"]}, "chief", 0), "there are 2 chiefs (chief, master)"),
    (config({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0), "no ps to hold their weights; add one"),
    (config({"ps": ["b:1"]}, "ps", 0), "no process in `cluster` trains"),
    (config(CLUSTER), "`task.type` is None; the jobs of `cluster` are chief, worker, ps"),
    (config(CLUSTER, "boss", 0), "`task.type` is 'boss'"),
    (config(CLUSTER, "worker", 2), "`task.index` is 2, but the length of `cluster.worker` is 2"),
    (config(CLUSTER, "worker", -1), "`task.index` is -1"), (config(CLUSTER, "worker", "one"), '`task.index` is "one"')])
def test_what_cannot_be_is_one_clear_line(text, message):
    if not message:
        assert job.task_of(text) is None
        return
    with pytest.raises(UserError) as raised:
        job.task_of(text)
    assert str(raised.value).startswith("TF_CONFIG: ") and message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1 and raised.value.exit_code == 2


CHIEF, ALONE = job.task_of(config(CLUSTER, "chief", 0)), None
EVALUATOR = job.task_of(config(CLUSTER, "evaluator", 0))


@pytest.mark.parametrize("training, parallel, task, message", [
    (dict(accumulate=2), {}, CHIEF, "--accumulate does not work in a cluster"),
    (dict(deterministic=True), {}, CHIEF, "--deterministic does not work"),
    (dict(on_nan="rollback"), {}, CHIEF, "--on-nan rollback does not work"),
    (dict(validation="x", schedule="plateau"), {}, CHIEF, "--schedule plateau does not work"),
    (dict(accumulate=2, deterministic=True, on_nan="rollback"), {}, ALONE, None),
    (dict(cache=True, ema=0.9, validation="x", patience=1, warm_up=3, schedule="cosine"), dict(sync=True), CHIEF, None),
    ({}, dict(sync=True), ALONE, "--sync needs a cluster"),
    ({}, dict(evaluator=True), CHIEF, "--evaluator needs validation data"),
    (dict(validation="x", patience=1), dict(evaluator=True), CHIEF, "--patience does not work with --evaluator"),
    (dict(validation="x", validate_every=1), dict(evaluator=True), ALONE, "--validate-every does not work with"),
    (dict(validation="x"), dict(evaluator=True), ALONE, None),
    (dict(validation="x"), dict(evaluator=True), EVALUATOR, None),
    (dict(validation="x"), {}, EVALUATOR, "pass --evaluator to all processes")])
def test_options_of_clusters(training, parallel, task, message):
    if message:
        with pytest.raises(UserError, match=message):
            check_options(TrainConfig(**training), ParallelConfig(**parallel), task)
    else:
        check_options(TrainConfig(**training), ParallelConfig(**parallel), task)


@pytest.mark.parametrize("text, message", [
    ("worker=1", "without a ps"), ("ps=0,worker=1", "without a ps"), ("ps", "use something like ps=1,worker=2"),
    ("ps=1,chief=1", "the chief is implied"), ("ps=1,ps=2", "use something like"),
    ("ps=1,evaluator=2", "has 2 evaluators")])
def test_local_clusters_that_cannot_be(text, message):
    with pytest.raises(UserError, match=message):
        launch.sizes_of(text)


def test_local_clusters():
    assert launch.sizes_of("ps=2,worker=3,evaluator=1") == dict(ps=2, worker=3, evaluator=1)
    argv = ["train", "d", "--local-cluster", "ps=1", "--sync", "--local-cluster=ps=2", "--seed", "1"]
    assert launch.arguments(argv) == ["train", "d", "--sync", "--seed", "1"]


def test_a_cluster_in_a_cluster(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", config(CLUSTER, "chief", 0))
    assert main(["train", "data", "--log-path", "", "--local-cluster", "ps=1"]) == 2
    assert "--local-cluster starts a cluster, but TF_CONFIG makes this process part of one" in capsys.readouterr().err
    monkeypatch.delenv("TF_CONFIG")
    assert main(["train", "data", "--log-path", "", "--local-cluster", "ps=1", "--evaluator"]) == 2
    assert "add evaluator=1" in capsys.readouterr().err
    monkeypatch.setenv("TF_CONFIG", "{")
    assert main(["train", "data", "--log-path", ""]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aocr: error: TF_CONFIG: invalid JSON") and len(error.splitlines()) == 1


def test_shares_add_up():
    for records in (1, 2, 7, 100):
        assert sum(Shard(number, 3).size(records) for number in range(3)) == records


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Sets the directories of a job service: .checkpoints, .logs, .model."""
    found = types.SimpleNamespace(**{name: tmp_path / "job" / name for name in ("checkpoints", "logs", "model")})
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", f"{found.checkpoints}/")
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", f"{found.logs}/")
    monkeypatch.setenv("AIP_MODEL_DIR", f"{found.model}/")
    monkeypatch.chdir(tmp_path)
    return found


def test_the_directories_of_a_job(dataset, places, words, tmp_path, capsys):
    assert main(["train", dataset, *SMALL, "--max-steps", "2"]) == 0
    assert (places.checkpoints / "model.ckpt-2.index").exists() and (places.checkpoints / "model.json").exists()
    assert [path.name.split(".")[0] for path in places.logs.iterdir()] == ["events"]
    assert (places.model / "saved_model.pb").exists()
    assert f"exported: {places.model}\n" in capsys.readouterr().out
    # A finished job that is started again replaces its export.
    assert main(["train", dataset, *SMALL, "--max-steps", "1", "--job-dir", "given"]) == 0
    assert (tmp_path / "given" / "model.ckpt-1.index").exists()
    assert main(["predict", words.images[0], "--log-path", ""]) == 1  # AIP_CHECKPOINT_DIR is for training only
    assert "./checkpoints: no checkpoint there" in capsys.readouterr().err


def test_an_export_directory_that_holds_something_else(dataset, places, capsys):
    places.model.mkdir(parents=True)
    (places.model / "mine.txt").write_text("x")
    assert main(["train", dataset, *SMALL, "--max-steps", "1"]) == 1
    assert "other files are there (mine.txt)" in capsys.readouterr().err
    assert not places.checkpoints.exists()
