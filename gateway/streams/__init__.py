"""The log in the middle: streams, their readers' places, their keeper."""
