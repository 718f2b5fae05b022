"""Expert stacks, and one file for each model family that has them."""
