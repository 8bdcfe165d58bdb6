"""Source and Gateway base classes, and the HTTP client they are given."""
