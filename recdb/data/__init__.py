"""Where interactions come from: files, an application's own tables, and a generator."""
