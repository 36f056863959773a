"""The command line: one verb a function, printing what the other rooms return."""
