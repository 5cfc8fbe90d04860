"""What the data set `folder` reads: recordings of pictures or one video, and the labels that lie beside them."""
