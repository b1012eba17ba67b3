"""Thin handlers: parse, admit, open, deliver."""
