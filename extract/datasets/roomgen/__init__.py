"""Generator of the `rooms` dataset: furnished rooms, rendered with Cycles, with exact depth, pose and instances.

Lengths are metres, z is up, angles are degrees unless a name says otherwise. Furniture stands in its own frame
with x = width, y = depth (the front looks to -y), z = up, and its origin on the floor in the middle of its footprint.
"""
