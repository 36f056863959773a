"""Scripts that run inside the environment of a method of others; they know nothing of this platform."""
