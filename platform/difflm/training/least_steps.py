"""Steps that the passes over few rows do not go below, of every training; `plan` counts with them."""

COPYING_STEPS = 400
"""Of a decoder that is to copy records from prompts."""
STEERED_STEPS = 150
"""Of one that writes them by itself: more are learned by heart."""
AUTOENCODER_STEPS = 300
PRIOR_STEPS = 300
