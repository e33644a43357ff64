"""Networks: the denoiser, and the frozen or auxiliary ones around it."""
