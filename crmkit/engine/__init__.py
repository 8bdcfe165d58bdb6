"""What drives the steps."""
