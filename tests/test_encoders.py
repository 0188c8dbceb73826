"""Every encoder by the same protocol, convolutions against XLA's, and what is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.fitting.objective import squared_norm


class Tiny(nn.Module):
    """A module of one's own."""

    num_features: int = 3

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return nn.LayerNorm()(nn.Dense(self.num_features)(nn.tanh(x)))


ENCODERS = {
    "linear": (amtl.linear_encoder(4), (7,)),
    "mlp": (amtl.mlp_encoder(4, widths=(5, 6)), (7,)),
    "mlp on images": (amtl.mlp_encoder(2), (3, 4, 1)),
    "conv": (amtl.conv_encoder(4, channels=(2, 3)), (8, 9, 2)),
    "conv, pool each": (amtl.conv_encoder(4, channels=(2, 3), pool_each=True), (8, 9, 1)),
    "identity": (amtl.identity_encoder(7), (7,)),
    "module": (amtl.module_encoder(Tiny()), (2, 5)),
}


def inputs(shape, num=10):
    return jax.random.normal(jax.random.key(1), (num, *shape))


@pytest.mark.parametrize("name", ENCODERS)
def test_protocol(name):
    encoder, shape = ENCODERS[name]
    x = inputs(shape)
    params = encoder.init(jax.random.key(0), x[:3])
    features = encoder.apply(params, x)
    assert features.shape == (10, encoder.num_features)
    assert features.dtype == jnp.float32
    assert jnp.isfinite(features).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    again = encoder.init(jax.random.key(0), x[5:8])
    jax.tree.map(np.testing.assert_array_equal, params, again)
    # rows do not meet each other
    np.testing.assert_allclose(encoder.apply(params, x[4:5])[0], features[4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(amtl.encode_rows(encoder, params, x), features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("chunk_rows", [None, 1, 6, 100])
def test_blocks_are_encoded_in_chunks(name, chunk_rows):
    encoder, shape = ENCODERS[name]
    encoder = encoder._replace(chunk_rows=chunk_rows)
    x = inputs(shape, 21).reshape(7, 3, *shape)
    params = encoder.init(jax.random.key(0), x[0])
    whole = amtl.encode(encoder, params, x)
    flat = encoder.apply(params, x.reshape(21, *shape)).reshape(7, 3, -1)
    np.testing.assert_array_equal(whole, flat)
    weight = jnp.zeros((7, 3)).at[1].set(1.0).at[4, 2].set(0.5)
    found = jax.jit(lambda weight: amtl.encode_live(encoder, params, x, weight))(weight)
    np.testing.assert_allclose(found[:5], whole[:5], rtol=1e-5, atol=1e-6)
    if chunk_rows == 1:  # a block at a time, and none behind the last that counts
        np.testing.assert_array_equal(found[5:], 0)
    nothing = amtl.encode_live(encoder, params, x, jnp.zeros((7, 3)))
    if chunk_rows is not None:
        np.testing.assert_array_equal(nothing, 0)
    rows = amtl.encode_rows(encoder, params, x.reshape(21, *shape))
    np.testing.assert_allclose(rows, whole.reshape(21, -1), rtol=1e-5, atol=1e-6)


PADDINGS = [
    ((1, 1), (1, 1)),
    ((0, 0), (0, 0)),
    ((2, 0), (0, 1)),
    ((3, 1), (2, 2)),
    ((-1, 0), (1, 0)),
]


@pytest.mark.parametrize(("channels", "outputs"), [(1, 4), (5, 2)])  # by patches, and by XLA's
@pytest.mark.parametrize("padding", PADDINGS)
def test_convolution_and_its_gradients_are_those_of_xla(padding, channels, outputs):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (5, 7, 6, channels))
    kernel = jax.random.normal(keys[1], (3, 2, channels, outputs))

    def reference(x, kernel, padding):
        # XLA's CPU backend reads beyond its arrays where padding is negative.
        x = jax.lax.pad(x, 0.0, ((0, 0, 0), *((*pair, 0) for pair in padding), (0, 0, 0)))
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found, pull = jax.vjp(lambda x, k: amtl.convolve(x, k, padding), x, kernel)
    wanted, wanted_pull = jax.vjp(lambda x, k: reference(x, k, padding), x, kernel)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    grad = jax.random.normal(keys[2], found.shape)
    for one, other in zip(pull(grad), wanted_pull(grad), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_max_pool_is_that_of_flax(size):
    x = inputs((*size, 3))
    wanted, wanted_pull = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    found, pull = jax.vjp(amtl.max_pool, x)
    np.testing.assert_array_equal(found, wanted)
    grad = jax.random.normal(jax.random.key(2), found.shape)
    np.testing.assert_array_equal(pull(grad)[0], wanted_pull(grad)[0])


def test_the_gradient_of_a_convolution_of_one_image_is_one_program_of_few_lines():
    # The images are the channels of the gradient by the kernel, and an image its filter.
    def loss(kernel):
        return amtl.convolve(jnp.ones((1, 28, 28, 8)), kernel, ((1, 1), (1, 1))).sum()

    lowered = jax.jit(jax.grad(loss)).lower(jnp.ones((3, 3, 8, 4)))
    assert lowered.as_text().count("\n") < 50


def test_equal_values_of_a_square_share_the_gradient_of_its_maximum():
    x = jnp.array([[3.0, 3.0, 1.0, 2.0], [0.0, 3.0, 2.0, 2.0]])[None, :, :, None]
    grad = jnp.array([[6.0, 9.0]])[None, :, :, None]
    (found,) = jax.vjp(amtl.max_pool, x)[1](grad)
    np.testing.assert_allclose(found[0, :, :, 0], [[2, 2, 0, 3], [0, 2, 3, 3]], rtol=1e-6)


def test_the_default_network_is_the_papers():
    params = jax.eval_shape(
        amtl.conv_encoder(50).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1))
    )
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(params))
    assert shapes == [(3, 3, 1, 32), (3, 3, 32, 64), (32,), (64,), (14 * 14 * 64, 50)]


def test_a_network_is_not_linear():
    x = inputs((6, 6, 1))
    for encoder in (amtl.mlp_encoder(4), amtl.conv_encoder(4, channels=(2,))):
        params = encoder.init(jax.random.key(0), x)
        assert not np.allclose(encoder.apply(params, -x), -encoder.apply(params, x), atol=1e-2)


def test_the_penalty_leaves_biases_out():
    params = amtl.mlp_encoder(2, widths=(3,)).init(jax.random.key(0), inputs((4,)))
    biased = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 9.0 if path[-1].key == "bias" else leaf, params
    )
    assert float(squared_norm(biased)) == float(squared_norm(params))
    weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    wanted = sum(float(jnp.sum(leaf**2)) for leaf in weights)
    assert float(squared_norm(params)) == pytest.approx(wanted)
    assert float(squared_norm({})) == 0.0


class Normed(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(self.num_features)(x))


class Wide(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_features + 1)(x)


class Twice(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x), x


class Dropped(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(2)(x))


class Centred(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x - x.mean(axis=0, keepdims=True))


class Unit(nn.Module):
    num_features: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x / jnp.linalg.norm(x, axis=-1, keepdims=True))


def test_modules_that_are_no_encoders():
    key, x = jax.random.key(0), inputs((4,))
    with pytest.raises(TypeError, match=r"flax\.linen module, got object"):
        amtl.module_encoder(object())
    with pytest.raises(TypeError, match="instance such as"):
        amtl.module_encoder(Tiny)
    with pytest.raises(TypeError, match="Dense with num_features=None"):
        amtl.module_encoder(nn.Dense(3))
    with pytest.raises(ValueError, match="num_features >= 1"):
        amtl.module_encoder(Tiny(0))
    with pytest.raises(ValueError, match="chunk_rows"):
        amtl.module_encoder(Tiny(), chunk_rows=0)
    with pytest.raises(ValueError, match=r"Normed keeps the variables batch_stats.*GroupNorm"):
        amtl.module_encoder(Normed()).init(key, x)
    with pytest.raises(ValueError, match=r"Wide must map inputs .*\[10, 2\].*shape=\(10, 3\)"):
        amtl.module_encoder(Wide()).init(key, x)
    with pytest.raises(ValueError, match=r"Twice must map inputs .*got \("):
        amtl.module_encoder(Twice()).init(key, x)
    with pytest.raises(ValueError, match="Dropped is no function of parameters and inputs alone"):
        amtl.module_encoder(Dropped()).init(key, x)
    assert amtl.module_encoder(Tiny(np.int64(3))).num_features == 3


def test_rows_are_tried():
    for name in ENCODERS:
        encoder, shape = ENCODERS[name]
        amtl.check_rows(encoder, shape)
    with pytest.raises(ValueError, match="depend on the rows beside it"):
        amtl.check_rows(amtl.module_encoder(Centred()), (4,))
    with pytest.raises(ValueError, match="not finite for an input of zeros"):
        amtl.check_rows(amtl.module_encoder(Unit()), (4,))


def test_inputs_and_settings_that_do_not_fit():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"images \[n, H, W, C\].*\(7,\)"):
        amtl.conv_encoder(2).init(key, inputs((7,)))
    with pytest.raises(ValueError, match="leave nothing of the image"):
        amtl.conv_encoder(2, pool_each=True).init(key, inputs((3, 3, 1)))
    with pytest.raises(ValueError, match="num_features = 4, got inputs of shape"):
        amtl.identity_encoder(4).init(key, inputs((5,)))
    for name in ("linear", "conv", "identity", "mlp"):
        encoder, shape = ENCODERS[name]
        with pytest.raises(TypeError, match="expects float inputs, got uint8"):
            encoder.init(key, jnp.zeros((2, *shape), jnp.uint8))
    with pytest.raises(ValueError, match=r"\(left, right\)\), got 'SAME'"):
        amtl.convolve(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), "SAME")
    with pytest.raises(ValueError, match="widths >= 1"):
        amtl.mlp_encoder(2, widths=(3, 0))
    for channels in ((), (4, 0)):
        with pytest.raises(ValueError, match="channels >= 1"):
            amtl.conv_encoder(2, channels=channels)
