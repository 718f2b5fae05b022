"""How the models of the zoo are trained, fine-tuned and upcycled, and how their cards are written."""
