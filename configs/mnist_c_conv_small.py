"""MNIST-C with a small convolutional network that two cores can train, every arm alike.

    amtl study mnist_c_conv_small --data.root mnist_c --study.targets fog_3 glass_blur_8
    amtl run mnist_c_conv_small --data.root mnist_c --data.target fog_3

Two 3×3 convolutions of 16 and 32 channels, each pooled, and a dense layer to 50 features, by
variable projection in minibatches with early stopping; every fit from its own start, as one that
starts where the round before ended stops at once. λ, steps and start are those of least error of
`uniform` on four other targets and another seed, the same for every arm. 15,000 source samples an
arm in three rounds, exploration and held-out rows charged, 400 target samples, which are not in the
fit that relevance comes from.

docs/mnist_c.md says how they were chosen, and how the arms compare.
"""

from amtl_jax.experiment.config import (
    Config,
    EncoderConfig,
    FitConfig,
    FloorConfig,
    MnistCConfig,
    StudyConfig,
)


def get_config() -> Config:
    """Returns the job on MNIST-C with a small convolutional representation."""
    return Config(
        name="mnist_c_conv_small",
        data=MnistCConfig(),
        num_target=400,
        budget=15_000,
        schedule=(0.3, 0.28, 0.42),
        floor=FloorConfig(share=0.2),
        arms=("target_only", "uniform", "a_mtrl", "alignment"),
        target_in_fit=False,
        encoder=EncoderConfig(kind="conv", widths=(16, 32), pool_each=True),
        fit=FitConfig(
            num_steps=600, learning_rate=3e-3, batch_rows=256, penalty=3e-4, warm_start=False
        ),
        block_rows=32,
        seeds=(0,),
        study=StudyConfig(arms=("target_only", "uniform", "a_mtrl", "alignment", "same_digit")),
    )
