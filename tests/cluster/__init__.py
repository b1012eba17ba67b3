"""Journeys of several processes behind a real nginx with a real Redis: killed, frozen, renewed in mid-stream."""
