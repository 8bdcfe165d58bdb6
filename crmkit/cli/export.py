"""`crmkit customers export`: everything that is kept of a customer, as JSON."""

import os
from pathlib import Path

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import FILE
from crmkit.cli.whom import customer_meant
from crmkit.core.errors import ConfigError


@click.command()
@click.argument("customer")
@click.argument("file", required=False, type=FILE)
@output.json_option
@with_call
def export(call: Call, customer: str, file: Path | None, as_json: bool) -> None:
    """Write everything that is kept of a customer (named as for `find`) as JSON: to FILE, which only you may read.

    Rows by table, of plugins too. Raw webhooks and records that were refused are not in it: what was read of them is.
    """
    from crmkit.store import export as stored
    from crmkit.store import forgotten

    with call.reading() as tx:
        number = customer_meant(tx, customer)
        found = stored.everything(tx, number)
        unreached = forgotten.unreached(tx)
    document = {"customer": number, "exported_at": call.now, "unreached": unreached, "rows": found}
    if file is None:
        output.document(document)
    else:
        _write(file, output.written(document))
        count = sum(len(rows) for rows in found.values())
        if as_json:
            output.document({"customer": number, "rows": count, "unreached": unreached, "file": str(file)})
        else:
            output.say(f"{plural(count, 'row')} of customer #{number} written to {file}")
    if unreached:
        output.warn(f"not reached, since their plugins are not loaded: {', '.join(unreached)}")


def _write(file: Path, text: str) -> None:
    """A new file that only its owner may read: all of it, or none.

    Raises:
        ConfigError: it is there, or cannot be written.
    """
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as stream:
                stream.write(f"{text}\n")
        except BaseException:  # an interruption, too
            file.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise ConfigError(f"{file} is there already", who="customers", operation="export", do="name another") from None
    except OSError as error:
        what = f"{file} cannot be written: {error.strerror}"
        raise ConfigError(what, who="customers", operation="export", do="name another") from error
