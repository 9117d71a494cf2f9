"""Experiments: starting and stopping them, their figures, and estimates for versions that were never served."""
