"""What an adapter is: the base classes a vendor's plugin fills in, and what they are handed.

- `misreading`: why something cannot be read, without what it says
- `http`: the client an adapter is given, and what became of a call
- `memory`: what it remembers from run to run
- `door`: webhooks are verified on their raw bytes
- `stream`: pages, and where a read starts
- `adapter`: what sources and gateways have in common
- `source`: reads a shop, a mailbox, a survey tool, and yields records
- `gateway`: delivers messages over one vendor
"""
