"""The small core: rules and shapes, pure. No session, no socket, no clock of its own. Imports no other room.

In the order data flows:

- `errors`: the error tree, named by what happens next
- `money`: decimal amounts and their minor units
- `correlation`: by what rows and log lines that came of one webhook are known
- `log`: every line of the log, and what it may say
- `duration`: durations as configuration and templates write them
- `records`: what comes in: canonical facts that adapters yield
- `version`: how two versions of one record become one row, whatever order they came in
- `customer`: profiles, identities, addresses, consent; who is who
- `forgotten`: whom nothing is kept of: keyed hashes, and what is left of records about them
- `trace`: by what somebody is told in a raw body
- `order`: orders, lines, parcels, payments, refunds, returns, reviews
- `bill`: what an order costs its buyer, and what was paid of it as far as its shop says
- `statement`: all orders of a customer with a shop as one account
- `lifecycle`: the stage and cycle a customer is in
- `events`: what is told to handlers
- `schedule`: when what is marked with `@every` is due
- `silence`: for how long it is usual that nothing comes, and whether it is longer than that
- `trouble`: what is not as it should be, counted for staff
- `interaction`: the append-only log, the work that is pending on it, and timers
- `inner`: events the core tells itself
- `broadcast`: one message to many: whom it is for, and the members it was frozen to
- `actions`: what a handler may ask for
- `form`: messages as vendors of approved texts want them
- `message`: the outbox, its states and reasons, attempts and receipts
- `quota`: what a gateway account may still send, whether it answers, and what is paused
- `balance`: what is left on a gateway's account at its vendor
- `reputation`: how much of what a gateway sends may go wrong
- `staging`: whom an installation for trying out may reach
- `segments`: how a text travels as SMS
- `optout`: replies that say no more messages, or messages again
- `plan`: the files of plans, as far as the database knows of them
- `account`: shops and their cursors, runs and quarantine
- `instance`: which database this is, and whether who sends for it is the one who did
- `secret`: secrets in settings, and where they stand
- `hooks`: the extension surface on one screen
"""
