"""What happens to events between their source and the log, and beside it."""
