"""The tasks of arXiv 2605.28132 as its code trains and measures them, for its protocols (`evaluate.metrics.paper`)."""
