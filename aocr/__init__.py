"""Trains an attention OCR model on your own word and line images and puts it into production."""

__version__ = "0.10.0"
