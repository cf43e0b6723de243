"""Encoder, decoder and the masked pass: tensors only."""
