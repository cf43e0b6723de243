"""The loop and what keeps it safe."""
