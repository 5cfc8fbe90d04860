"""What ScanNet's files hold: recordings (.sens, exported folders), instance pictures, labels and split lists."""
