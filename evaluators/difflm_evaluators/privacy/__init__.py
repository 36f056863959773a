"""Privacy: copies, distances to training rows, membership inference, and a screen for draws."""
