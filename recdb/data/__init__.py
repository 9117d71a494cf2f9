"""The sources of interactions: files, an application's own tables, and a generator."""
