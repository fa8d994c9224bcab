"""The load generator: scenarios, the load they make, and what is found of it."""
