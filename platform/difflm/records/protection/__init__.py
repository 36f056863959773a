"""Protection: values that few training rows have are left out of all that is learned, written or drawn."""
