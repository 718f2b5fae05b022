"""Live panels for notebooks."""
