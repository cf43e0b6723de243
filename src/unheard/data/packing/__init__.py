"""The shards of a packed corpus: planned, written one by one, and summarised; and tasks for several processes."""
