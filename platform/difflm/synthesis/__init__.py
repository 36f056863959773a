"""From noise to records: bundle, grammar, decoding."""
