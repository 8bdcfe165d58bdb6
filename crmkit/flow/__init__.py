"""The way through, in order: sync, ingest, decide, render, deliver."""
