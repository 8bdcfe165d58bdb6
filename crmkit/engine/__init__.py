"""What drives the steps. Correctness is the steps' own; an engine only decides when and where they run.

- `local`: everything in one process, nothing to install
"""
