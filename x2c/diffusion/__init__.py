"""Diffusion: the forward process, the denoiser's prediction types, guidance and sampling."""
