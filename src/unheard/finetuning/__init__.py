"""Fine-tuning: train a classifier from an encoder and a labelled table."""
