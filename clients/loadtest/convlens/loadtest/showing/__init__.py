"""What a run says to people: while it lasts, and at its end."""
