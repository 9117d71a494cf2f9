"""The demo: a year of groceries, and how one more purchase changes the list."""
