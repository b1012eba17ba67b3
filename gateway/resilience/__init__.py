"""Sources around sources."""
