"""Camera poses and intrinsics as other tools write them, each read in one file that says where its format is defined.

All of them come out alike: camera-to-world, OpenCV axes, pixels of pictures that span [0, width] x [0, height].
"""
