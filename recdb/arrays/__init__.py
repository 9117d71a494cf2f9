"""Between tables and numpy arrays: everything the job reads and writes in bulk, by binary COPY."""
