"""Figures as in papers on masked spectrogram modelling: masks, mask ratios, attention, durations and patch sizes."""
