"""The pytest plugin: a network guard and databases for tests."""
