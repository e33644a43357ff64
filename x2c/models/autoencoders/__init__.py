"""Autoencoders: volumes in [-1, 1] to latents and back, slice by slice."""
