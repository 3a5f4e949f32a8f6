"""What a model is worth: measurement, validations, pictures; no TensorFlow here."""
