"""Reading many clips: ring of batches, loader, map-style dataset, xarray view."""
