"""Settings that every test shares: strict rank promotion, and hypothesis without deadlines."""

import hypothesis
import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("ours", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ours")
