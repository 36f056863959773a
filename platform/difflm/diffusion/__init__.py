"""The latent space and its priors: scaling, denoiser, denoising score matching, Heun's sampler."""
