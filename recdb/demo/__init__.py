"""The demo: a year of groceries, and what one more purchase changes."""
