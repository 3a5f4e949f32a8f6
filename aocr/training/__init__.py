"""The training run: from a dataset to checkpoints in a model directory."""
