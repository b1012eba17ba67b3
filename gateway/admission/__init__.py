"""The door: who asks, what they may, how much of it, and when it is their turn."""
