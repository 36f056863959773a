"""Records: tables in, one line of text per row, and back."""
