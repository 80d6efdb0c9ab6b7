"""The parts of ``benchmarks/speed.py``: what is timed, and its tables."""
