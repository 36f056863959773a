"""Verbs about generators that are handed on: signing, files, repositories, and what is shown of them."""
