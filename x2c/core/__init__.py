"""The base layer: configuration, registries, errors, run directories. It imports nothing else of x2c."""
