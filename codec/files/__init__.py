"""Whole ``.codes`` files and what is done with them: encode, decode, edit, list."""
