"""The way through, in order: each step is a plain function that can be run alone, repeated, killed and run again.

- `setup`: what the steps are set up with
- `sync`: pulls pages from a source into ingest
- `inbox`: webhooks are kept at the door, and read into ingest
- `ingest`: records become customers, orders and interactions
- `shape`: how each kind of record is kept in columns
- `forget`: a customer is forgotten, and records about them come without the person
- `people`: who is who, within ingest
- `inbound`: what customers said by themselves, within ingest
- `family`: who is one customer: families from evidence, and merges by hand
- `decide`: handlers are asked, and what they ask for is carried out
- `policy`: what may drop, hold or defer a message
- `compose`: from a handler's `Send` to messages of the outbox
- `render`: templates by name
- `template`: one template: front matter, version, text
- `context`: the facts a template is rendered from
- `sandbox`: Jinja, held in
- `wording`: money and dates as a reader writes them
- `deliver`: claims, the mark before the wire, gateways, what came of it
- `callback`: receipts move messages on
- `consent`: what is entered by hand or from a file goes into the ledger
"""
