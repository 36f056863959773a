"""Files: tables in from what people have, and out in the same form."""
