"""Where orders come from: one module per marketplace, each an entry point `marketplace.<slug>`."""
