"""Reads images of any kind with a model or an export: results, inputs, batches, `Reader`."""
