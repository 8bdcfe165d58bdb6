"""Public: what the tests of crmkit and of its plugins are written with. Nothing here is imported by a shop.

- `plugin`: the pytest plugin: the network guard and the database fixtures
- `network`: the guard that fails a test which would leave this machine
- `database`: a PostgreSQL of one's own, and copies of a migrated template
"""
