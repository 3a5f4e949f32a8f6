"""The client of servers with TensorFlow Serving's REST interface; free of TensorFlow."""
