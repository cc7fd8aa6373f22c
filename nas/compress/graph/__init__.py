"""An exported ONNX body as a network that trains: what it computes, in torch, on the grid that the file stores."""
