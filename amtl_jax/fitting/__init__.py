"""Representation fits: one signature, `Fitter(init, fit)`, for every encoder and optimiser."""
