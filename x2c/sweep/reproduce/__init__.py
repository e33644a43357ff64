"""All that RESULTS.md shows, from nothing: python -m x2c.sweep reproduce."""
