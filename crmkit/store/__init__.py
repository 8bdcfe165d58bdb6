"""The only room that speaks SQL: one writer, batched statements, claims and migrations, on SQLite and PostgreSQL.

- `engine`: opens a database; transactions, and the one thread that all database work of a process goes through
- `lines`: lines of the log, said once what they tell is committed
- `tables`: every table of the core in one metadata
- `migrate`: creates and upgrades a database; says what version it is
- `bulk`: rows in batches: a constant number of statements per batch, never one per row
- `accounts`: shops, cursors, runs, quarantine
- `inbox`: webhooks that were kept, what they hint at, what adapters remember
- `contacts`: addresses that were left on a page, and are not proven yet
- `customers`: profiles, identities, addresses, families, consent
- `forgotten`: every place where something of a person is kept, and how it is erased
- `bodies`: raw bodies that were kept, and which of them are about somebody
- `orders`: orders and what belongs to them
- `statement`: what a customer's account with a shop is made of
- `log`: interactions, pending work and timers
- `facts`: what handlers, policies and templates are shown, loaded for a whole batch
- `broadcasts`: audiences frozen to members, and how far they are
- `told`: what was said before: keys that are told, marketing that is planned
- `outbox`: messages: claims, marks, attempts, receipts
- `quotas`: what gateway accounts may still send, and whether they answer
- `pauses`: what does not leave until it is resumed
- `tokens`: what programs may use pages with, found by its hash
- `metrics`: totals, counted from the tables that only grow
- `standing`: how much waits, and since when
- `search`: who is meant, and everything that is known of one customer
- `report`: counts, and what the commands show
"""
