"""What video diffusion models share: their folders, noise levels, windows, prompts, and the loop around a denoiser."""
