"""A-MTRL: samples in proportion to squared min-norm relevance."""

from amtl_jax.relevance import min_norm
from amtl_jax.strategies.proposal import blank, proportional
from amtl_jax.strategies.shared_heads import shared_heads
from amtl_jax.types import Evidence, Proposal, Strategy


def a_mtrl(*, ridge: float = 0.0) -> Strategy:
    """The paper's rule: counts above the floor ∝ nu², nu of least ‖nu‖₂ with W nu = w_target.

    Args:
      ridge: regularises the min-norm solution; 0 is the paper's.

    References:
      Chen, Du, Jamieson. Active Multi-Task Representation Learning. ICML 2022, Algorithm 2.
    """

    def init(num_sources: int):
        return blank(num_sources), ()

    def update(evidence: Evidence, state) -> tuple[Proposal, tuple]:
        relevance = min_norm(*shared_heads(evidence), ridge=ridge)
        return proportional(relevance.nu**2, relevance), state

    return Strategy(init, update)
