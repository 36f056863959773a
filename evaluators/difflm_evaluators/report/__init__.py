"""Reports: their layout, pages and pictures, and several side by side."""
