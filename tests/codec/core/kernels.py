"""The kernels of the core."""

KERNELS = ("portable", "avx2", "avxvnni", "vnni", "dotprod")
"""Names of all that a library for a computer can have; a processor has some of them."""
