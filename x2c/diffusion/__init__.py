"""The forward process, what the denoiser predicts, and sampling."""
