"""Trains an attention OCR model on your own word and line images and puts it into production."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aocr.api import DatasetResult, TrainResult, dataset, evaluate, load, train
    from aocr.errors import UserError
    from aocr.reading.reader import Reader
    from aocr.reading.results import ReadCharacter, ReadError, ReadResult

__version__ = "0.10.0"

# Imported when they are first used: `import aocr` takes neither TensorFlow nor NumPy nor Pillow.
_PLACES = {name: module for module, names in {
    "aocr.api": ("load", "train", "evaluate", "dataset", "TrainResult", "DatasetResult"),
    "aocr.errors": ("UserError",),
    "aocr.reading.reader": ("Reader",),
    "aocr.reading.results": ("ReadCharacter", "ReadError", "ReadResult"),
}.items() for name in names}
__all__ = ["DatasetResult", "ReadCharacter", "ReadError", "ReadResult", "Reader", "TrainResult", "UserError", "dataset",
           "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'aocr' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
