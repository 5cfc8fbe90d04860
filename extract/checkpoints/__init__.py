"""Checkpoints as their libraries save them: what is in them, whether it is whole, which weights it is, how it loads."""
