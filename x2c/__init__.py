"""x2c: the ablation laboratory for X-ray to CT diffusion models."""

__version__ = "0.1.0"
