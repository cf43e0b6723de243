"""Jobs that write a table of embeddings: what goes in, what comes out, and tasks for several processes."""
