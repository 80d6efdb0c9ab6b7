"""The ``aecodec`` command."""
