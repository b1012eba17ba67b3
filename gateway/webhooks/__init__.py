"""Webhooks: other systems are told what becomes of streams, signed, tried again, never waited for."""
