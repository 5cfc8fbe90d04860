"""The release of CO3D v2: its annotations, which sequences are read, cameras, and pictures."""
