"""The distributed engine: PostgreSQL, with Procrastinate to wake workers, keep time and run jobs.

A job is only a wake-up, harmless when lost or doubled: what is right stays the database's, in the code that one
process runs too.

- `engine`: what the command line asks for: set up, work, say how it stands
- `address`: how each connection is made, and what it calls itself
- `schema`: Procrastinate's tables and ours in a schema of their own, and the triggers that tell of work
- `jobs`: what a wake-up is, and how it is put into the queue once
- `line`: the one connection a worker listens with
- `bell`: rings for what is to be done
- `post`: the one connection that says a worker is there, and holds what only one worker does
- `schedule`: a span of time as a schedule
- `taker`: takes jobs out of their queues
- `worker`: wakes up, and takes the steps
- `status`: queues, workers and lag
"""
