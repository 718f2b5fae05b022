"""What will happen, and the layer loop that does it."""
