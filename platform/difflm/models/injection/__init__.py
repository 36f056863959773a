"""Latent injection: what writes a latent into a prompt for the frozen decoder (DiffLM, section 3.3)."""
