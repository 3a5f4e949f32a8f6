"""What a model is worth: figures and pictures; no TensorFlow here."""
