"""Models for other programs: ONNX files and Hugging Face folders."""
