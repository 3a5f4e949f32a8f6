"""Synthetic words: what to draw, with which fonts and backgrounds, and drawing it."""
