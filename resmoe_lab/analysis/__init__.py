"""What the weights alone tell: approximation errors, error curves, a budget spread over layers, a diagnosis, FLOPs."""
