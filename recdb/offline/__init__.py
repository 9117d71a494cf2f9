"""Offline evaluation in numpy: split, rank, score and search; nothing here uses a database."""
