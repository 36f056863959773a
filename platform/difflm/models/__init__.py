"""The autoencoder's parts: encoder, posterior, injector and the frozen decoder."""
