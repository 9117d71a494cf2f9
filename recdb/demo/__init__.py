"""The demo: the whole story on a year of groceries."""
