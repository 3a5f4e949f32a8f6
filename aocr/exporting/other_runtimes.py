"""The formats of other runtimes: what each can hold, and writing it."""

from aocr.checkpoint import Description
from aocr.config import ATTENTION, CTC, ExportConfig
from aocr.errors import UserError, usage_error
from aocr.exports import description_of
from aocr.model import Model
from aocr.original import OriginalNetwork

METHODS = {"onnx": (ATTENTION, CTC), "tflite": (CTC,)}  # decodings that a format can hold


def described(model: Model, name: str) -> Description:
    """Returns the description of a model. UserError if a format (of METHODS) cannot hold it as it decodes."""
    assert model.decoding
    if isinstance(model.network, OriginalNetwork):
        raise usage_error(f"--format {name} holds models of this aocr only, and the original aocr trained this one; "
                          "use --format savedmodel or frozengraph")
    if model.decoding.method in METHODS[name]:
        return description_of(model)
    possible = [method for method in METHODS[name] if model.config.ctc or method != CTC]
    if not possible:
        raise usage_error(f"--format {name} holds a CTC branch only, and this model has none; use --format onnx")
    flags = " or ".join(f"--decoding {method}" for method in possible)
    raise usage_error(f"--format {name} cannot hold decoding {model.decoding.method}, by which this model reads; add "
                      f"{flags}")


def write_onnx(model: Model, directory: str, config: ExportConfig) -> None:
    """Writes model.onnx. Raises: UserError if it cannot hold the model or does not read as the model does."""
    description = described(model, "onnx")
    try:
        from aocr.exporting import onnx_file
    except ImportError as error:
        raise _missing("onnx", "onnx and onnxruntime", error) from None
    onnx_file.write(model, description, directory, config.verification)


def write_tflite(model: Model, directory: str, config: ExportConfig) -> None:
    """Writes model.tflite and description.json. Raises: as `write_onnx`."""
    description = described(model, "tflite")
    try:
        from aocr.exporting import tflite_file
    except ImportError as error:
        raise _missing("tflite", "ai-edge-litert", error) from None
    tflite_file.write(model, description, directory, config.quantize, config.verification)


def _missing(name, packages, error):
    return UserError(f"--format {name} needs {packages} ({error}); in the aocr source tree, run "
                     f"pip install '.[{name}]'")
