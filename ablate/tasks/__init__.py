"""What is trained: the data, the model and the objective of each kind of task."""
