"""Ways to find a common expert, one file each."""
