"""Representations as flax.linen modules; the only folder that imports flax."""
