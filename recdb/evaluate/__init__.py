"""Evaluates the ranking through SQL, in a scratch database, on held-out interactions."""
