"""Steps from a CT as read to the volume that a model learns: small pure steps on a `Volume`."""
