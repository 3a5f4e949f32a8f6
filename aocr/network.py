"""The network: from images to the outputs of its two branches.

Shape letters, here and in `graph/`: N images, H x W pixels (H = 32), C channels, S encoder steps (W / the CNN's stride,
rounded up), T decoder steps, V ids of the charset, K classes of CTC, U units.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import tensorflow.compat.v1 as tf

from aocr.charset import Charset
from aocr.config import ModelConfig, scaled_width
from aocr.graph import ctc
from aocr.graph.cnn import sliding_cnn
from aocr.graph.decoder import AttentionDecoder
from aocr.graph.encoder import bidirectional_encoder
from aocr.graph.layers import GLOROT, Initializers, Moments
from aocr.graph.preprocess import PreparedImage, PreparedImages, prepare_image


class Branches(NamedTuple):
    """The two branches that read the memory."""

    decoder: AttentionDecoder
    ctc_logits: tf.Tensor | None  # [N, S, K] float32; None without CTC
    lengths: tf.Tensor  # [N] int32, encoder steps of each image
    moments: list[Moments]  # of this batch, one per batch norm layer


class AnyNetwork(Protocol):
    """The interface that Model requires of a network: that of this package, or the original's."""

    config: ModelConfig
    charset: Charset

    def build(self, images: PreparedImages, *, dtype: tf.DType) -> Branches: ...

    def prepare_image(self, encoded: tf.Tensor) -> PreparedImage: ...

    def drawn_steps(self, width: int, height: int) -> float: ...

    def as_drawn(self, images: PreparedImages, encoded: tf.Tensor) -> PreparedImages: ...

    @property
    def decoder_steps(self) -> int: ...


class Network:
    """Sliding CNN, bidirectional encoder, attention decoder, CTC branch."""

    def __init__(self, config: ModelConfig, charset: Charset):
        self.config, self.charset = config, charset

    def build(self, images: PreparedImages, *, is_training: bool = False, dtype: tf.DType = tf.float32,
              initializers: Initializers = GLOROT, dropout: Callable | None = None,
              reuse: bool = False) -> Branches:
        """Adds the network on some images to the current graph.

        Args:
          is_training: batch norm uses the moments of this batch.
          dtype: of the convolutions; weights stay float32.
          dropout: function of the features ([N, S, F] float32) that drops some of them.
          reuse: share the variables of a network already in the graph.
        """
        config = self.config
        with tf.variable_scope(tf.get_variable_scope(), reuse=reuse or None):
            features = sliding_cnn(*images, config.network, is_training=is_training, dtype=dtype,
                                   initializers=initializers)
            values = dropout(features.values) if dropout else features.values  # [N, S, F]
            encoded = bidirectional_encoder(values, features.lengths, units=config.encoder_units,
                                            use_gru=config.use_gru, initializers=initializers)
            decoder = AttentionDecoder(
                encoded, vocabulary=len(self.charset), layers=config.attn_num_layers, units=config.attn_num_hidden,
                attention_units=config.attention_units, embedding_size=config.target_embedding_size,
                use_gru=config.use_gru, initializers=initializers)
            logits = None
            if config.ctc:
                logits = ctc.ctc_logits(encoded, len(self.charset.characters), config.right_to_left)
        return Branches(decoder, logits, encoded.lengths, features.moments)

    def prepare_image(self, encoded: tf.Tensor) -> PreparedImage:
        """Prepares an encoded image (string []) for the network."""
        config = self.config
        return prepare_image(encoded, canvas_width=config.canvas_width, channels=config.channels,
                             background=config.background, max_pixels=config.max_pixels)

    def drawn_steps(self, width: int, height: int) -> float:
        """Returns the encoder steps that an image of this size takes, the last one counted in part."""
        return min(max(scaled_width(width, height), 1), self.config.canvas_width) / self.config.network.stride

    def as_drawn(self, images: PreparedImages, encoded: tf.Tensor) -> PreparedImages:
        """Returns the columns of pixels that the images themselves take.

        Args: images: N of them, from encoded images (string [N], or fewer if `at_least_one` has added one).
        """
        return images

    @property
    def decoder_steps(self) -> int:
        """Maximum number of greedy steps: the longest label and EOS."""
        return self.config.max_prediction + 1
