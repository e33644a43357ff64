"""The 3D VQ-GAN (Khader et al. 2022, "Medical Diffusion"; after TATS, Ge et al. 2022): network, training, files."""
