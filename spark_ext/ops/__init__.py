"""What people use to run jobs: the command line."""
