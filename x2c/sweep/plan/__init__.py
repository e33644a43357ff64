"""Which cells a sweep has: sweep files, their parameters and conditions, preregistration."""
