"""`difflm benchmark`: methods of others and our own on one table, with the same rows, minutes and ruler."""
