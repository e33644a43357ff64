"""The plan of a sweep: sweep files, their parameters and conditions, cells, preregistration."""
