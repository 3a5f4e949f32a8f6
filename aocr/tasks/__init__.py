"""The work of the commands on a trained model or a dataset; results are returned, not printed."""
