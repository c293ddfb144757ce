"""Linear regression by stochastic gradient descent; a Hydra app like any other."""
