"""The sliding CNN: its geometry, and that an image's features do not depend on its neighbours."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.graph.cnn import sliding_cnn, width_mask
from aocr.graph.layers import Initializers
from aocr.networks import NETWORKS, ORIGINAL


def images_of(widths, width, channels=1):
    """Returns noise images that are the same for any batch width."""
    images = np.zeros([len(widths), 32, width, channels], np.float32)
    for n, own in enumerate(widths):
        images[n, :, :own] = np.random.RandomState(100 * n + own).uniform(-1, 1, [32, own, channels])
    return images


def feed_of(widths, width=None, channels=1):
    return dict(images=images_of(widths, width or max(widths), channels), widths=np.array(widths, np.int32))


def reading(images, widths):
    return sliding_cnn(images, widths, NETWORKS[ORIGINAL], is_training=False)


def test_width_mask_by_hand(run_graph):
    got = run_graph(lambda widths: width_mask(widths, 4), widths=np.array([3, 0, 4], np.int32))
    assert got.shape == (3, 1, 4, 1)
    assert got[:, 0, :, 0].tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_there_is_a_feature_vector_for_four_columns(bench):
    widths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13]
    network = bench(reading, feed_of([2]))
    together = network.run(**feed_of(widths))
    assert together.values.shape == (10, 4, 512)
    assert together.values.dtype == np.float32
    assert together.lengths.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 3, 4]
    for width, steps in [(16, 4), (17, 5), (31, 8), (86, 22)]:
        assert network.run(**feed_of([width])).values.shape == (1, steps, 512)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_do_not_depend_on_the_neighbours(bench, name):
    """Alone, where the convolutions meet the edge, and in a batch of wider images."""
    widths, stride, features = [1, 2, 3, 4, 5, 6, 7, 8, 9, 23], NETWORKS[name].stride, NETWORKS[name].features
    network = bench(lambda images, widths: sliding_cnn(images, widths, NETWORKS[name], is_training=False), feed_of([2]))
    together = network.run(**feed_of(widths, 27)).values
    for n, width in enumerate(widths):
        own = -(-width // stride)
        alone = network.run(images=images_of(widths, 27)[n:n + 1, :, :width], widths=[width]).values
        assert alone.shape == (1, own, features)
        assert alone.max() > 0.1, "the features are trivially 0"
        np.testing.assert_allclose(together[n, :own], alone[0], atol=1e-5 * alone.max())
        assert not together[n, own:].any()


def test_padding_is_not_an_image_of_0(bench):
    """An image of 0 has features, from the network's offsets; padding has none."""
    network = bench(reading, feed_of([2]))
    nothing = np.zeros([1, 32, 9, 1], np.float32)
    whole = network.run(images=nothing, widths=[9]).values[0]
    part = network.run(images=nothing, widths=[4]).values[0]
    assert (whole.max(1) > 0.1).all()
    assert not np.allclose(part[0], whole[0], atol=0.1)
    assert not part[1:].any()


def test_features_see_the_columns_around_them(bench):
    """Steps that columns 40 to 43 reach: a 3 x 3 kernel adds one on both sides, the last kernel one on its left."""
    network = bench(reading, feed_of([2]))
    feed = feed_of([101])
    before = network.run(**feed).values[0]
    feed["images"][0, :, 40:44] *= -1
    changed = np.flatnonzero(np.abs(network.run(**feed).values[0] - before).max(1) > 1e-5 * before.max())
    # conv1: columns 39 to 44; halved: 19 to 22; conv2: 18 to 23; halved: 9 to 11; four more kernels: 5 to 15.
    assert changed.tolist() == list(range(4, 16))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_weights_are_those_of_seven_layers(bench, channels):
    network = bench(reading, feed_of([2], channels=channels))
    kernels = {name: value.shape for name, value in network.weights.items() if name.endswith("kernel")}
    assert kernels == {
        "cnn/conv1/kernel": (3, 3, channels, 64), "cnn/conv2/kernel": (3, 3, 64, 128),
        "cnn/conv3/kernel": (3, 3, 128, 256), "cnn/conv4/kernel": (3, 3, 256, 256),
        "cnn/conv5/kernel": (3, 3, 256, 512), "cnn/conv6/kernel": (3, 3, 512, 512),
        "cnn/conv7/kernel": (2, 2, 512, 512)}
    others = {name for name in network.weights if not name.endswith("kernel")}
    assert others == {f"cnn/{layer}/{part}" for layer in ("conv3", "conv5", "conv7")
                      for part in ("gamma", "beta", "population_mean", "population_variance")}


def test_batch_norm_moments_are_those_of_the_images_alone(bench):
    """In training, gradients included: padding 11 columns wider changes nothing."""
    def build(images, widths):
        features = sliding_cnn(images, widths, NETWORKS[ORIGINAL], is_training=True)
        gradients = tf.gradients(tf.reduce_sum(features.values[:, :, ::7]), tf.trainable_variables())
        return (features.values, [(moments.mean, moments.variance) for moments in features.moments],
                [tf.norm(gradient) for gradient in gradients])

    widths = [3, 14, 7]
    network = bench(build, feed_of([2]))
    values, moments, norms = network.run(**feed_of(widths))
    wide_values, wide_moments, wide_norms = network.run(**feed_of(widths, 25))
    np.testing.assert_allclose(wide_values[:, :4], values, atol=1e-4)
    assert not wide_values[:, 4:].any()
    assert len(moments) == 3
    for narrow, wide in zip(moments, wide_moments):
        np.testing.assert_allclose(wide, narrow, rtol=1e-4, atol=1e-5)
    assert len(norms) == 7 + 2 * 3
    assert min(norms) > 1e-3
    np.testing.assert_allclose(wide_norms, norms, rtol=1e-2)


@pytest.mark.parametrize("is_training", [False, True])
def test_bfloat16_is_float32_with_fewer_digits(bench, is_training):
    widths = [5, 23, 11]
    weights, values = [], []
    for dtype in (tf.float32, tf.bfloat16):
        network = bench(lambda images, widths, dtype=dtype: sliding_cnn(
            images, widths, NETWORKS[ORIGINAL], is_training=is_training, dtype=dtype).values, feed_of([2]))
        weights.append({name: value.dtype for name, value in network.initial.items()})
        values.append(network.run(**feed_of(widths)))
    assert weights[0] == weights[1] and set(weights[1].values()) == {np.dtype(np.float32)}
    assert values[0].dtype == values[1].dtype == np.float32
    error = np.abs(values[1] - values[0]).max() / values[0].max()
    assert 1e-5 < error < 0.05, "no error at all would be float32 under another name"


def test_convolutions_to_relu_can_start_as_he_says(bench):
    """Without batch norm, a kernel's variance is 2 / (3 * 3 * inputs); the other kernels stay Glorot-uniform."""
    feed = dict(images=np.zeros([1, 32, 8, 1], np.float32), widths=np.array([8], np.int32))
    start = bench(lambda images, widths: sliding_cnn(
        images, widths, NETWORKS[ORIGINAL], is_training=False, initializers=Initializers(he=True)).values,
                  feed).initial
    for name, inputs in (("conv2", 64), ("conv4", 256), ("conv6", 512)):
        assert start[f"cnn/{name}/kernel"].std() == pytest.approx(np.sqrt(2 / (9 * inputs)), rel=0.01)
    for name, inputs, outputs in (("conv3", 128, 256), ("conv5", 256, 512)):
        limit = np.sqrt(6 / (9 * (inputs + outputs)))
        assert 0.999 * limit < start[f"cnn/{name}/kernel"].max() <= limit
