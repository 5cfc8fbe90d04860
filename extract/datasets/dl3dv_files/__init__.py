"""Parts of the reader of DL3DV: where scenes lie, their splits, labels that a network made, and clips."""
