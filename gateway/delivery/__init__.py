"""One client's reading of one stream."""
