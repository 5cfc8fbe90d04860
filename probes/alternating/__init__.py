"""Probes that attend: a trunk of alternating attention over the views of a clip, and what reads its tokens out."""
