"""Moves tables to numpy arrays and back, in bulk, by binary COPY."""
