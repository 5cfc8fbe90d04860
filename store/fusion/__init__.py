"""Several feature stores read as one: frames and grids are aligned as they are read, and nothing is written."""
