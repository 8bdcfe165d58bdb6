"""Public: what the tests of crmkit and of its plugins are written with."""
