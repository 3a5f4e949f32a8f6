"""Other runtimes' formats: ONNX and TFLite files, written from a model's weights."""
