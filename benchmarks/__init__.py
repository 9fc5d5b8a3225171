"""Measured figures: each script prints its machine, its data's checksum and the figure, and exits 1 when short of it."""
