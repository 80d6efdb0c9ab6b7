"""Entropy coding of codes: an exact context model and a range coder."""
