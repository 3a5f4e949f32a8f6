"""Training by several processes. `training.run` knows of a Chief only what `training.processes` says."""
