"""What drives the steps. Correctness is the steps' own; an engine only decides when and where they run.

- `accounts`: each account met, its adapter opened with what it remembers
- `together`: rows that come one at a time share a transaction
- `doors`: webhooks verified and kept
- `inward`: what comes in: shops read, webhooks kept and taken in
- `notes`: what is noted outside a database of how far it has come
- `fence`: whether this database may send
- `gateways`: those of one run, each opened when it is first needed
- `pace`: how much one transaction takes
- `due`: what is due by a clock, and when there is more
- `plan`: what a run would do, and what it comes to
- `dry_run`: deciding and handing over, and nothing of it is committed
- `spillover`: what one slice of a plan leaves to others
- `sliced`: a plan in slices of customers, to be applied
- `simulated`: a plan of a run whose clock steps from due time to due time
- `local`: everything in one process, nothing to install
- `plan_file`: a plan as it is kept
- `apply`: a plan is applied: each slice again, if it comes to the same
- `until`: tasks that go on side by side until they are to stop
- `pruning`: old things let go, a little at a time
- `service`: sync and dispatch for ever, and standing connections beside them
- `steps`: the steps one at a time, for an engine that is woken for each
- `keeper`: what an open door needs beside it
"""
