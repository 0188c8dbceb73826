"""The published recipe on MNIST-C with the published convolutional network.

    amtl study mnist_c_conv --data.root mnist_c

As `mnist_c_published`, with two 3×3 convolutions of 32 and 64 channels, one max-pool behind the
second and a dense layer to 50 features in place of the linear representation. The network of
public code of the follow-up pads no convolution and has one more ReLU, on its features; ours pads,
and has none. There are 1,000 steps a fit, each over up to 50,625 images, and a CPU core takes three
seconds for a thousand of them: a job for an accelerator. mnist_c_conv_small is for two cores.

Not measured yet; docs/mnist_c.md has this network with shorter fits.
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
    """Returns the published job, convolutional."""
    return Config(
        name="mnist_c_conv",
        data=MnistCConfig(),
        num_target=400,
        budget=121_875,
        schedule=(15_000, 22_500, 33_750, 50_625),
        rounds="last",
        floor=FloorConfig(count=100),
        target_in_fit=False,
        encoder=EncoderConfig(kind="conv", num_features=50, widths=(32, 64), input_scale=255.0),
        fit=FitConfig(
            method="joint",
            num_steps=1000,
            optimizer="adadelta",
            learning_rate=0.01,
            schedule="step",
            decay=0.9,
            decay_steps=100,
            warm_start=False,
            penalty=0.0,
        ),
        seeds=(0,),
        study=StudyConfig(arms=("target_only", "uniform", "a_mtrl", "l1_a_mtrl")),
    )
