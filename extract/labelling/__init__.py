"""Networks that label recordings which have no labels: depth, confidence and cameras. One file per network."""
