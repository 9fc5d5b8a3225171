"""Sketches: speed (`__main__`), and the studies behind the accuracy plots."""
