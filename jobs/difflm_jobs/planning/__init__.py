"""What an experiment would take: steps, sizes and memory, before anything runs."""
