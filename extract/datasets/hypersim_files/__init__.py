"""What Hypersim's files hold: arrays in HDF5, cameras with tilted lenses, lists of images, and labels."""
