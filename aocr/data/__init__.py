"""Dataset creation, scanning and input pipelines."""
