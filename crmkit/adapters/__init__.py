"""What an adapter is: the base classes a vendor's plugin fills in, and the HTTP client it is handed.

- `source`: reads a shop, a mailbox, a survey tool, and yields records in pages
- `gateway`: delivers messages over one vendor
- `http`: the client an adapter is given
"""
