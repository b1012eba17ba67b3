"""Several gateway processes behind a real nginx with a real Redis: killed, frozen, emptied, renewed in mid-stream."""
