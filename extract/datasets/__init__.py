"""Data sets: one file each, read in their published form."""
