"""What is kept from batch to batch: state by key, and windows."""
