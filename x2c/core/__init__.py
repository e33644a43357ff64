"""What everything else stands on: configuration, registries, errors, run directories. Imports nothing of x2c."""
