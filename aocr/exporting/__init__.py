"""Exports: the graph that is served, its files in every format, the proof that they answer as the model does."""
