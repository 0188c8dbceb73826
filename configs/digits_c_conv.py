"""The same question with a small convolutional network in place of the linear representation.

amtl run digits_c_conv
"""

from amtl_jax.experiment.config import Config, DigitsConfig, EncoderConfig, FitConfig


def get_config() -> Config:
    """Returns the default job with a convolutional representation."""
    return Config(
        name="digits_c_conv",
        data=DigitsConfig(),
        encoder=EncoderConfig(kind="conv", widths=(16, 32), pool_each=True),
        fit=FitConfig(num_steps=240, learning_rate=3e-3, batch_rows=256, penalty=3e-4),
        block_rows=32,
    )
