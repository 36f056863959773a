"""Relations between columns: found in the training rows or asked for, and kept in every synthetic row."""
