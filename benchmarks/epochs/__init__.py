"""What an epoch costs: commits by both writers, whole epochs, visible rows."""
