"""The core: a library in C that computes with arrays of numbers, and what binds it to Python."""
