"""Decoding: prompts become records, slot by slot, by our own loop or by vLLM."""
