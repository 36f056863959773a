"""Studies of many experiments: ablations, quantities of rows, flywheels, downstream models."""
