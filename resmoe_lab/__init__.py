"""A workbench that takes Mixture-of-Experts language models apart and makes them small."""
