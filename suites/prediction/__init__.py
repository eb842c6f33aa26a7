"""Prediction of expert-parallel layers on described clusters, without running them."""
