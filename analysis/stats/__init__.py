"""Statistics of scores: pure functions on arrays that return frozen dataclasses."""
