"""What a masked pass is asked for, one loss a file."""
