"""X-ray encoders: radiographs in [0, 1] to one embedding each."""
