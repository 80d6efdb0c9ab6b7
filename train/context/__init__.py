"""Fitting the context model of a codec."""
