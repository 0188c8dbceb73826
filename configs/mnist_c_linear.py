"""Which of 150 tasks of MNIST-C help with each of its 160, every arm tuned?

    amtl study mnist_c_linear --data.root mnist_c
    amtl run mnist_c_linear --data.root mnist_c --data.target fog_3

The study takes each of the 160 tasks in turn as the target, the 150 of the other corruptions as
sources: a linear representation 784 → 50, its penalty chosen on held-out source rows, 15,000 source
samples an arm in three rounds, exploration and held-out rows charged, a floor of 20 % of each
round, 400 target samples, which as in the paper are not in the fit that relevance comes from. Every
fit has the same start: from where an even split ended, a fit learns less of its own samples.
MNIST-C is not shipped; docs/data_sets.md says where to get it, docs/mnist_c.md what came out.
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
    """Returns the job on MNIST-C."""
    return Config(
        name="mnist_c_linear",
        data=MnistCConfig(),
        num_target=400,
        budget=15_000,
        schedule=(0.3, 0.28, 0.42),
        floor=FloorConfig(share=0.2),
        arms=("target_only", "uniform", "a_mtrl", "alignment"),
        target_in_fit=False,
        encoder=EncoderConfig(num_features=50),
        fit=FitConfig(tolerance=1e-3, window=5, warm_start=False),
        seeds=(0,),
        study=StudyConfig(arms=("target_only", "uniform", "a_mtrl", "alignment", "same_digit")),
    )
