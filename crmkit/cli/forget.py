"""`crmkit customers forget`: erase all that is known of a customer, for good."""

import click

from crmkit.cli import output
from crmkit.cli.asking import must_be_wanted
from crmkit.cli.call import Call, with_call
from crmkit.cli.family import yes_option
from crmkit.cli.whom import customer_meant


@click.command()
@click.argument("customer")
@yes_option
@output.json_option
@with_call
def forget(call: Call, customer: str, yes: bool, as_json: bool) -> None:
    """Erase all that is known of a customer (named as for `find`), for good.

    Orders stay for the books, without who bought. Later ones of the same person are stored like that too, and nobody
    is told of them.
    """
    from crmkit.flow import forget as forgetting

    with call.reading() as tx:
        number = customer_meant(tx, customer)
        found = forgetting.preview(tx, number)
    if not (yes and as_json):
        cells = [(name.replace("_", " "), count) for name, count in found.counts.items()]
        output.table(cells, (f"of customer #{number}", "rows"), numbers=("rows",))
    for other in found.shared_with:
        output.warn(
            f"customer #{other} shares an e-mail address or a number with this one: orders that carry it will be stored"
            " without a person from now on"
        )
    if found.unreached:
        output.warn(f"not reached, since their plugins are not loaded: {', '.join(found.unreached)}")
    if not yes:
        must_be_wanted("Forget this customer? It cannot be taken back.", "customers forget")
    with call.open_store() as store:
        from crmkit.cli.plan import reach
        from crmkit.store import customers, forgotten, migrate

        migrate.check(store, call.host.migrations)
        with store.read() as tx:
            members = customers.members(tx, [number])[number]
        looked = forgetting.look_through(store.read, number)
        with store.begin() as tx:
            done = forgetting.forget(tx, number, now=call.now, looked=looked)
        forgotten.overwrite_journal(store)
        unreached = reach(store, members)
    if as_json:
        output.document({"forgotten": number, "counts": done, "unreached": found.unreached, "plans": unreached})
    else:
        for file in unreached:
            output.warn(
                f"not reached, and may name this customer: {file}, where a plan was written; look at it, and remove it"
            )
        output.say(f"customer #{number} is forgotten; backups and files that gateways wrote are not reached")
