"""The convolutional networks by name, for `--cnn`. `graph/cnn.py` builds them."""

import math
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution, followed by batch norm, max pooling and relu."""

    filters: int
    kernel: tuple[int, int] = (3, 3)  # height, width
    stride: tuple[int, int] = (1, 1)
    batch_norm: bool = True
    pool: tuple[int, int] = (1, 1)  # height, width of the pooling windows, which do not overlap


class Network(NamedTuple):
    """A sliding CNN: reduces 32 rows of pixels to one, `stride` columns to one feature vector of size `features`."""

    layers: tuple[Layer, ...]

    @property
    def stride(self) -> int:
        """Pixel columns per encoder step: S = ceil(W / stride)."""
        return math.prod(layer.stride[1] * layer.pool[1] for layer in self.layers)

    @property
    def features(self) -> int:
        """Size of a feature vector."""
        return self.layers[-1].filters


ORIGINAL, COMPACT, FINE = "original", "compact", "fine"
# For two CPU cores, with a tenth of the original's operations: half the resolution from the first layer on, a quarter
# from the second; batch norm in every layer.
_COMPACT = (
    Layer(32, (5, 5), stride=(2, 2)),
    Layer(64, stride=(2, 2)),
    Layer(96),
    Layer(96, pool=(2, 1)),
    Layer(128),
    Layer(128, pool=(2, 1)),
    Layer(192, (2, 3), stride=(2, 1)),
)
NETWORKS = {
    # That of the original aocr.
    ORIGINAL: Network((
        Layer(64, batch_norm=False, pool=(2, 2)),
        Layer(128, batch_norm=False, pool=(2, 2)),
        Layer(256),
        Layer(256, batch_norm=False, pool=(2, 1)),
        Layer(512),
        Layer(512, batch_norm=False, pool=(2, 1)),
        Layer(512, (2, 2), pool=(2, 1)),
    )),
    COMPACT: Network(_COMPACT),
    # Twice the resolution along the text, for characters of few pixels.
    FINE: Network((_COMPACT[0]._replace(stride=(2, 1)), *_COMPACT[1:])),
}
