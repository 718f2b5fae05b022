"""Ways to search for a barycenter, one file each."""
