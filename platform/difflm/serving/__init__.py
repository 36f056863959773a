"""Serving: requests for rows that share one running batch, and the HTTP interface in front of it. Knows no Ray."""
