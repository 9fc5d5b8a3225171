"""Streams from outside."""
