"""Metrics and statistics on arrays, and the tables and figures of finished runs."""
