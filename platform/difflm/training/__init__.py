"""Training: tasks, the engines that run their steps, and the loop that drives both."""
