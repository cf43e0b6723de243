"""Frozen models that say what a sound is; a student learns to say the same from what it hears of it."""
