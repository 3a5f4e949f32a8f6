"""The server of `aocr serve`: TensorFlow Serving's REST contract, from an export or a model directory."""
