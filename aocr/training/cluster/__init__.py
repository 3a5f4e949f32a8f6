"""Training by several processes. `training.run` uses only the interface of `training.processes`."""
