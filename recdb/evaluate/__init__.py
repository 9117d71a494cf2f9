"""Measuring the ranking through SQL, in a scratch database, on data held out."""
