"""Configuration and plugins."""
