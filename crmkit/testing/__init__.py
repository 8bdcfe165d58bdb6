"""Public: what the tests of crmkit and of its plugins are written with. Nothing here is imported by a shop.

- `plugin`: the pytest plugin: the network guard and the database fixtures
- `network`: the guard that fails a test which would leave this machine
- `database`: a PostgreSQL of one's own, and copies of a migrated template
- `fault`: the ways in which a vendor, or the way to it, fails; and what each must come to
- `ledger`: what a fake vendor was asked and what it took, and what in a database is not so by it
- `vendor`: a fake vendor on 127.0.0.1 that fails as it is told to
- `resolver`: name servers that fail
- `exchange`: fixtures of adapters: what is sent and answered, beside what was given and what is expected
"""
