"""From a CT as it came to the volume a model learns: small pure steps on a `Volume`."""
