"""Augmentation of training images: recipes and the operations that they combine."""
