"""Results for programs: tables in pandas and xarray, one Parquet file for a whole lab, and questions to them."""
