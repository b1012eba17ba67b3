"""Several gateway processes behind nginx with one Redis, on this machine: to try, to restart, to test."""
