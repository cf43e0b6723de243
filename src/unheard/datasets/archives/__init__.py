"""Label tables of sounds inside archives."""
