"""Sound in: files and arrays to waveforms, waveforms to spectrograms."""
