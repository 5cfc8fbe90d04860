"""What ScanNet++'s files of an iPhone hold: depth, poses and intrinsics of a video's frames, and split lists."""
