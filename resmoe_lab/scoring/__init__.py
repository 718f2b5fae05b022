"""What scores a model: tasks, two protocols, likelihoods, error bars, calibration text, a cache of scores."""
