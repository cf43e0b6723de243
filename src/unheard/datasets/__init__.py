"""What puts sounds and labels on a disk: packages, generated sounds, importers, task folders."""
