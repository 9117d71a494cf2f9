"""Everybody's lists at once, into a file."""
