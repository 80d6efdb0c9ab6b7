"""The parts of ``benchmarks/rate_quality.py``: what is coded, its statistics, tables and pages."""
