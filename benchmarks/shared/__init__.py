"""What several benchmarks use: recordings, measures, tables, plots, processes, reports."""
