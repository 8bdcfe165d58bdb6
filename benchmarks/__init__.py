"""What crmkit does in a second, beside what the machine could: ratios within one run, peers and limits interleaved.

`make bench`, or `python -m benchmarks [--quick] [ROW ...]`. One module is one row, or a family of rows, of the table:

- `sync`: a first load, from memory and from files, beside the raw driver; and nothing new
- `postgres`: a first load on PostgreSQL, beside the raw driver and beside COPY
- `decide`: a rule of `care` on every interaction, all quiet and all loud, beside the raw driver
- `dispatch`: over an HTTP gateway, beside a bare loop over the same client
- `cluster`: one, two and four workers on PostgreSQL, beside Procrastinate with a job for each message
- `smtp`: over the gateway `smtp`, beside a loop over one connection that sends finished mails
- `statements`: statements per batch, for a little and for a lot
- `memory`: peak memory, for a little and for ten times as much
- `door`: webhooks accepted over the wire, beside the same server doing nothing
- `year`: sync and dispatch with a busy year in the database, beside nothing before it

What they stand on: `harness` (rounds, medians, the table), `shop` (a generated shop), `house` (an installation around
it), `adapters` (a source and gateways of the benchmarks' own), `raw` (the driver alone), `sinks` (servers to send to).
"""
