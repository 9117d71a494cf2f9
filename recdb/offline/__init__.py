"""Offline evaluation in numpy: split, rank, score and search; nothing here knows of a database."""
