"""From a config to a finished run: build the parts, train, sample, score."""
