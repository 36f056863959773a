"""Large tables: columns as numbers of their distinct values, and rows that are taken when they are asked for."""
