"""Audio input: files and arrays to waveforms, waveforms to spectrograms."""
