"""Report card of an encoder of any kind: checks of its vectors, its times, its input, and its cost."""
