"""Mail out: one module per way to send it, each an entry point `email.<slug>`."""
