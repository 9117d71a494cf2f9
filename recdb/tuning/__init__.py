"""Choosing hyper-parameters for a database's own interactions."""
