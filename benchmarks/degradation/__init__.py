"""The parts of ``benchmarks/robustness.py``: experiments, measuring, statistics, tables, plots."""
