"""What the functions of a learner are made of."""

from typing import NamedTuple

from amtl_jax.purse import Purse
from amtl_jax.types import Fitter, Strategy


class Parts(NamedTuple):
    """What the functions of a learner close over; see `active_learner`."""

    fitter: Fitter
    strategy: Strategy
    purse: Purse
    num_sources: int
    num_target: int
    num_targets: int | None
    penalty: float | None
    penalties: tuple[float, ...]
    join_target: bool
    weigh_noise: bool
    warm_start: bool
