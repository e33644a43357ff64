"""x2c: the ablation laboratory for X-ray to CT diffusion models."""

import os

__version__ = "0.1.0"

# Idle threads of PyTorch and NumPy sleep at once rather than spin: two processes that share two cores would otherwise
# take several times as long as one after the other. Read when those libraries are loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
