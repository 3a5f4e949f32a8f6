"""Models that the original `aocr` trained (its TensorFlow 2 port): for reading, not for further training.

Their weights only fit the network that they were trained in, so it is rebuilt here with its peculiarities: images are
padded to the canvas with black and never scaled up, nothing is masked, the decoder's layers share one set of weights
and start from the front of the forward encoder's state, and `--use-gru` changes the decoder alone.
"""

import dataclasses
from collections.abc import Container
from typing import Any

import tensorflow.compat.v1 as tf

from aocr.charset import Charset, charset_for
from aocr.config import IMAGE_HEIGHT, ModelConfig, flags_of
from aocr.errors import usage_error
from aocr.graph import layers
from aocr.graph.decoder import AttentionDecoder
from aocr.graph.encoder import EncoderOutput
from aocr.graph.preprocess import PreparedImage, PreparedImages
from aocr.images import checked
from aocr.network import Branches
from aocr.networks import NETWORKS, ORIGINAL
from aocr.weights import shapes_in

DECODER = "embedding_attention_decoder"
EMBEDDING = f"{DECODER}/embedding"
RECURRENT = f"{DECODER}/attention_decoder/multi_rnn_cell/cell_0"

# Its values of options that differ in newer models.
NETWORK = dict(cnn=ORIGINAL, attn_num_layers=2, attention_units=0, ctc=False)

CONVOLUTIONS = {f"conv_conv{k}": layer for k, layer in enumerate(NETWORKS[ORIGINAL].layers, 1)}


def is_original(names: Container[str]) -> bool:
    """Returns whether a checkpoint with variables of these names is of the original."""
    return EMBEDDING in names


def settings(checkpoint: str, given: dict[str, Any], charset: Charset | None) -> tuple[ModelConfig, Charset]:
    """Returns the model's options from the given flags, checked as far as the checkpoint allows.

    Args: checkpoint: path without suffix; given: ModelConfig fields; charset: None for the default charset.
    Raises: UserError naming both values if a flag contradicts the checkpoint.
    """
    found = shapes_in(checkpoint)
    config = ModelConfig(**{**NETWORK, **given})
    charset = charset or charset_for(())
    hidden = found[f"{DECODER}/attention_decoder/weights"][1]
    actual = dict(
        graphemes=False,
        color=found["conv_conv1/W"][2] == 3,
        use_gru=f"{RECURRENT}/gru_cell/gates/kernel" in found,
        attn_num_hidden=hidden,
        attn_num_layers=found["bidirectional_rnn/fw/basic_lstm_cell/bias"][0] // 4 // hidden,
        target_embedding_size=found[EMBEDDING][1],
    )
    for field in dataclasses.fields(ModelConfig):
        if field.name in actual and getattr(config, field.name) != actual[field.name]:
            raise usage_error(f"{checkpoint}: trained with {flags_of(field)[0]} {actual[field.name]}, not "
                              f"{getattr(config, field.name)}; pass the flags that this checkpoint of the original "
                              "aocr was trained with")
    if found[EMBEDDING][0] != len(charset):
        raise usage_error(f"{checkpoint}: trained with {found[EMBEDDING][0]} ids, not {len(charset)}; "
                          f"pass --full-ascii if it was trained with it, else no charset")
    return config, charset


def our_names(names: Container[str], decoder_layers: int) -> dict[str, str]:
    """Maps our variables to those of a checkpoint of the original, among `names`: {our name: its name}.

    Its decoder's layers share their weights, so each of ours starts from them. The bridge from encoder to decoder has
    no counterpart.
    """
    pairs = {f"cnn/conv{k}/{ours}": f"conv_conv{k}/{theirs}"
             for k in range(1, 1 + len(CONVOLUTIONS)) for ours, theirs in (
                 ("kernel", "W"), *((ours, f"batch_normalization/{theirs}") for ours, theirs in (
                     ("gamma", "gamma"), ("beta", "beta"), ("population_mean", "moving_mean"),
                     ("population_variance", "moving_variance"))))}
    for part in ("kernel", "bias"):
        for ours, theirs in (("forward", "fw"), ("backward", "bw")):
            pairs[f"encoder/{ours}/{part}"] = f"bidirectional_rnn/{theirs}/basic_lstm_cell/{part}"
        for layer in range(decoder_layers):
            pairs[f"decoder/layer{layer}/{part}"] = f"{RECURRENT}/basic_lstm_cell/{part}"
            for gate in ("gates", "candidate"):
                pairs[f"decoder/layer{layer}/{gate}/{part}"] = f"{RECURRENT}/gru_cell/{gate}/{part}"
    inside = f"{DECODER}/attention_decoder"
    for ours, theirs in (("input", ""), ("attention/query", "Attention_0/"), ("output", "AttnOutputProjection/")):
        pairs[f"decoder/{ours}/kernel"] = f"{inside}/{theirs}weights"
        pairs[f"decoder/{ours}/bias"] = f"{inside}/{theirs}biases"
    pairs.update({"decoder/embedding": EMBEDDING, "decoder/attention/memory": f"{inside}/AttnW_0",
                  "decoder/attention/v": f"{inside}/AttnV_0"})
    return {ours: theirs for ours, theirs in pairs.items() if theirs in names}


class OriginalNetwork:
    """The original's network, with the interface of network.Network. Its probability includes EOS, too."""

    def __init__(self, config: ModelConfig, charset: Charset):
        self.config, self.charset = config, charset

    def build(self, images: PreparedImages, *, dtype: tf.DType = tf.float32) -> Branches:
        """Adds the network on some images to the current graph. `dtype`: of the convolutions."""
        features = tf.cast(_features(tf.cast(images.pixels, dtype)), tf.float32)  # [N, S, 512]
        memory, forward = _encoder(features, self.config.encoder_units)
        lengths = tf.fill([tf.shape(features)[0]], tf.shape(features)[1])  # nothing is masked
        encoded = EncoderOutput(memory, lengths, forward, backward=None)
        return Branches(OriginalDecoder(encoded, self.config, len(self.charset)), None, lengths, [])

    def prepare_image(self, encoded: tf.Tensor) -> PreparedImage:
        """Prepares an encoded image (string []) as the original did, padded to the canvas."""
        canvas = self.config.canvas_width
        encoded = checked(encoded, self.config.max_pixels)
        pixels = tf.io.decode_png(encoded, channels=self.config.channels)  # [h, w, C]; also JPEG, GIF
        size, squeezed = _drawn_size(pixels, canvas)
        pixels = tf.cond(tf.reduce_all(tf.equal(size, tf.shape(pixels)[:2])), lambda: tf.cast(pixels, tf.float32),
                         lambda: tf.compat.v2.image.resize(pixels, size, method="bicubic"))
        pixels = tf.pad(pixels, [[0, IMAGE_HEIGHT - size[0]], [0, canvas - size[1]], [0, 0]])
        pixels.set_shape([IMAGE_HEIGHT, None, self.config.channels])  # any width, as in network.Network
        return PreparedImage((pixels - 128.0) / 128.0, tf.constant(canvas), squeezed)

    def drawn_steps(self, width: int, height: int) -> float:
        """Returns the encoder steps that an image of this size takes, the last one counted in part."""
        fitting = -(-width * IMAGE_HEIGHT // height)
        if fitting <= self.config.canvas_width and height <= IMAGE_HEIGHT:
            fitting = width  # small images are not scaled
        return min(fitting, self.config.canvas_width) / self.config.network.stride

    def as_drawn(self, images: PreparedImages, encoded: tf.Tensor) -> PreparedImages:
        """Returns the widths without the padding. The pixels are blank, as the padding below an image looks like ink.

        Args: as of network.Network. The images are decoded once more: their sizes are not kept.
        """
        def drawn_width(encoded):
            pixels = tf.io.decode_png(encoded, channels=self.config.channels)
            return _drawn_size(pixels, self.config.canvas_width)[0][1]

        widths = tf.map_fn(drawn_width, encoded, fn_output_signature=tf.int32)
        missing = tf.shape(images.widths)[0] - tf.shape(widths)[0]
        return PreparedImages(tf.zeros_like(images.pixels), tf.pad(widths, [[0, missing]], constant_values=1))

    @property
    def decoder_steps(self) -> int:
        """Maximum number of greedy steps."""
        return self.config.max_prediction + 2


def _drawn_size(pixels, canvas):
    """Returns the size at which the original draws pixels [h, w, C] on its canvas, [height, width], and whether that
    squeezes them.
    """
    height, width = tf.unstack(tf.shape(pixels)[:2])
    fitting = -(-width * IMAGE_HEIGHT // height)  # the width at height 32
    squeezed = fitting > canvas
    small = tf.logical_and(height <= IMAGE_HEIGHT, tf.logical_not(squeezed))  # not scaled
    scaled = tf.cond(squeezed, lambda: [-(-canvas * IMAGE_HEIGHT // fitting), canvas], lambda: [IMAGE_HEIGHT, fitting])
    return tf.cond(small, lambda: [height, width], lambda: scaled), squeezed


def _features(x):
    """Applies the convolutions: [N, H, W, C] -> [N, S, 512]."""
    for name, layer in CONVOLUTIONS.items():
        with tf.variable_scope(name):
            x = layers.conv(x, layer.filters, layer.kernel, name="W")
            if layer.batch_norm:
                x = tf.cast(_batch_norm(tf.cast(x, tf.float32)), x.dtype)
            x = tf.nn.relu(x)
        if layer.pool != (1, 1):
            x = tf.nn.max_pool2d(x, ksize=layer.pool, strides=layer.pool, padding="SAME")
    return tf.squeeze(x, 1)


def _batch_norm(x):
    """Applies batch norm by population statistics, under the original's variable names."""
    with tf.variable_scope("batch_normalization"):
        gamma, beta, mean, variance = (layers.variable(name, [x.shape[3]], tf.zeros_initializer())
                                       for name in ("gamma", "beta", "moving_mean", "moving_variance"))
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, layers.BATCH_NORM_EPSILON)


def _encoder(features, units):
    """Runs both directions: [N, S, 512] -> memory [N, S, 2U] and the forward direction's final LSTMState."""
    x = tf.transpose(features, [1, 0, 2])  # [S, N, 512]
    cells = [layers.LSTMCell(f"bidirectional_rnn/{direction}/basic_lstm_cell", features.shape[2], units)
             for direction in ("fw", "bw")]
    forward = layers.run_lstm(cells[0], x)
    backward = layers.run_lstm(cells[1], tf.reverse(x, [0]))
    memory = tf.concat([forward.hidden, tf.reverse(backward.hidden, [0])], 2)  # [S, N, 2U]
    return tf.transpose(memory, [1, 0, 2]), layers.LSTMState(forward.cell[-1], forward.hidden[-1])


class OriginalDecoder(AttentionDecoder):
    """The same steps as ours, with the original's variables, shared layers and initial state."""

    def __init__(self, encoded: EncoderOutput, config: ModelConfig, vocabulary: int):
        units, count, depth = config.attn_num_hidden, config.attn_num_layers, encoded.memory.shape[2]
        self._memory = encoded.memory
        with tf.variable_scope(DECODER):
            self._embedding = layers.variable("embedding", [vocabulary, config.target_embedding_size])
            with tf.variable_scope("attention_decoder"):
                self._input = _Affine("", config.target_embedding_size + depth, units)
                cell: layers.GRUCell | layers.LSTMCell
                if config.use_gru:
                    cell = layers.GRUCell("multi_rnn_cell/cell_0/gru_cell", units, units)
                else:
                    cell = layers.LSTMCell("multi_rnn_cell/cell_0/basic_lstm_cell", units, units)
                self._cells = [cell] * count
                parts = len(cell.state._fields)
                self._query = _Affine("Attention_0/", count * parts * units, depth)
                kernel = layers.variable("AttnW_0", [1, 1, depth, depth])
                self._v = tf.expand_dims(layers.variable("AttnV_0", [depth], tf.zeros_initializer()), 1)
                self._output = _Affine("AttnOutputProjection/", units + depth, vocabulary)
        self._keys = tf.einsum("nsd,de->nse", encoded.memory, kernel[0, 0])
        self._floor = tf.zeros(tf.shape(encoded.memory)[:2])
        start = tf.concat(encoded.forward, 1)  # cell, then hidden; the decoder takes what it needs from the front
        pieces = [start[:, k * units:(k + 1) * units] for k in range(count * parts)]
        self._initial = [cell.state(*pieces[k * parts:(k + 1) * parts]) for k in range(count)]


class _Affine(layers.Linear):
    """A linear layer with the original's variable names."""

    def __init__(self, prefix, inputs, outputs):
        self.kernel = layers.variable(prefix + "weights", [inputs, outputs])
        self.bias = layers.variable(prefix + "biases", [outputs], tf.zeros_initializer())
