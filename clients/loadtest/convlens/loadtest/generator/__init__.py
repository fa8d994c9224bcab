"""A load process: it sends what is due when it is due, and notes what comes of it."""
