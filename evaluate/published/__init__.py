"""What others published: their tables as data, and what was measured here put beside them."""
