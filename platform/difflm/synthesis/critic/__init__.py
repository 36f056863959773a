"""The critic of a bundle: trees that tell its draws from training rows, and draws that are turned down by them."""
