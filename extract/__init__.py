"""Run a frozen backbone once over a data set, and keep the features of chosen layers and noise levels."""
