"""What `aocr dataset` writes, checked before it reads."""

import os
from collections.abc import Iterable

from aocr import outputs
from aocr.aside import is_stream
from aocr.config import DatasetConfig
from aocr.data.lengths import check_records
from aocr.data.records import UNREADABLE, parse_example, read_file, sidecar_of
from aocr.data.rows import STDIN
from aocr.errors import UserError
from aocr.files import is_remote
from aocr.outputs import Kind, Output, check_outputs, is_rows, is_within

HINT = " (the last path is the output, the others are inputs)"


def check(inputs: list[str], files: Iterable[str], config: DatasetConfig) -> None:
    """Raises UserError unless a build may write these dataset files, their sidecars and the rejected rows.

    `inputs`: files, directories and `-`.
    """
    read = [path for path in inputs if path != STDIN]
    written = [output for file in files for output in (
        Output(file, DATASET), Output(sidecar_of(file), SIDECAR))]
    if config.rejects and not is_stream(config.rejects):
        written.append(Output(config.rejects, REJECTS, "--rejects"))
        if not is_remote(config.rejects) and os.path.exists(config.rejects) and is_within(config.rejects, read):
            raise UserError(f"--rejects {config.rejects}: is a file of an input directory; name another file")
    check_outputs(written, [*read, *(sidecar_of(path) for path in read if not os.path.isdir(path))])


def _is_dataset(path):
    """Returns whether the first record of a file is a sample; a file without records counts."""
    try:
        check_records(path, most=1)
        for _ in read_file(path).map(parse_example).take(1):
            pass
    except (UserError, *UNREADABLE):
        return False
    return True


DATASET = Kind("a dataset", _is_dataset, HINT)
SIDECAR = Kind("the description of a dataset", outputs.json_with("version", "fingerprint", "records"),
               " (FILE.json describes the dataset FILE)")
REJECTS = Kind("a text file of rows", is_rows)
