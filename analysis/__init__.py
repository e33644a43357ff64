"""The reading side of x2c: metrics and statistics on arrays, and the tables and figures of finished runs."""
