"""Plans: what a synthesis is asked for, as latents and possible records of every index."""
