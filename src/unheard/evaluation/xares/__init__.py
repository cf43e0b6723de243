"""X-ARES task folders: protocol, scores and weighted averages."""
