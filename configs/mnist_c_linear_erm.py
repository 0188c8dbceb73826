"""Does adaptive sampling of MNIST-C gain where nearly nothing is regularised?

    amtl study mnist_c_linear_erm --data.root mnist_c
    amtl run mnist_c_linear_erm --data.root mnist_c --data.target fog_3

`mnist_c_linear` with λ = 1e-5 in place of a chosen one, and 50,000 source samples an arm: near
empirical risk minimisation, which is the regime of the published gain: what is compared is arms of
the same λ. Fits take up to 400 steps, all from the same start: with so little λ every further step
fits the samples closer, so that arms of more rounds must not have more of them.

docs/mnist_c.md says what came out.
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
    """Returns the job on MNIST-C with a penalty that hardly acts."""
    return Config(
        name="mnist_c_linear_erm",
        data=MnistCConfig(),
        num_target=400,
        budget=50_000,
        schedule=(0.3, 0.28, 0.42),
        floor=FloorConfig(share=0.2),
        arms=("target_only", "uniform", "a_mtrl", "alignment"),
        target_in_fit=False,
        encoder=EncoderConfig(num_features=50),
        fit=FitConfig(penalty=1e-5, num_steps=400, window=5, warm_start=False),
        seeds=(0,),
        study=StudyConfig(arms=("target_only", "uniform", "a_mtrl", "alignment")),
    )
