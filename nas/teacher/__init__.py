"""A teacher that the user brings: a trained network in a file, which distilled designs learn from."""
