"""Calls: what packets need on their way through a network that loses and delays them."""
