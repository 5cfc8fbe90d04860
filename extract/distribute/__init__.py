"""One extraction on several processes or machines: Dask carries lists of rows, the shared store carries the results."""
