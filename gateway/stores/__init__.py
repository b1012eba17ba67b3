"""Keepers of logs."""
