"""What a compressed layer weighs, and the manifest beside it."""
