"""DP-SGD: clipped gradients of single records, the engine that adds noise, and the decoder fitted by it."""
