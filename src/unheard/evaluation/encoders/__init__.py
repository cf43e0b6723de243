"""Models of any kind as encoders of an evaluation."""
