"""What shops and gateways say of themselves, for the doctor: each is opened and asked, all at once, in bounded time."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from crmkit.cli.finding import Finding
from crmkit.core.balance import Balance, in_words, is_low
from crmkit.core.errors import CrmkitError
from crmkit.core.money import Money

if TYPE_CHECKING:
    from crmkit.adapters.adapter import Adapter
    from crmkit.flow.setup import Entry
    from crmkit.host.host import Host

#: An adapter's own check gets this long, in seconds; and so long what is left on its account.
PATIENCE, BALANCE = 30.0, 10.0


async def asked(host: "Host", *, has_database: bool) -> list[Finding]:
    """What every account says, in the order they are configured.

    Args:
        has_database: whether there is one, in which stands what accounts remember.
    """
    from crmkit.engine.accounts import Accounts
    from crmkit.flow.setup import Entry

    store = host.store()
    accounts = Accounts(host, store)

    def made(entry: Any) -> Any:
        adapter = accounts.made(entry)
        if has_database:
            with store.read() as tx:
                accounts.reminded(adapter, entry.name, tx)
        return adapter

    checks = [
        _of(
            f"{getattr(entry, 'kind', 'gateway')} {entry.name}",
            partial(made, entry),
            entry if isinstance(entry, Entry) else None,
        )
        for entry in accounts.named().values()
    ]
    try:
        return [finding for found in await asyncio.gather(*checks) for finding in found]
    finally:
        store.close()


async def _of(part: str, make: Callable[[], Any], entry: "Entry | None") -> list[Finding]:
    """What one account says.

    Args:
        entry: of a gateway.
    """
    try:
        adapter = make()
    except CrmkitError as error:
        return [Finding(part, "bad", str(error))]
    try:
        is_in_use = getattr(adapter, "exclusive", False)  # perhaps by another process
        found, has_answered = await _checked(part, adapter, opens=not is_in_use)
        if entry is not None and not is_in_use and has_answered:
            found += await _left(part, adapter, entry.balance_low)
        await _closed(adapter)
    finally:
        await adapter.http.aclose()
    return found


async def _checked(part: str, adapter: "Adapter", *, opens: bool) -> tuple[list[Finding], bool]:
    """What its own check says, and whether it came to say anything: it is open, and its vendor there."""
    try:
        async with asyncio.timeout(PATIENCE):
            if opens:
                await adapter.open()
            found = [Finding(part, "bad", text) for text in await adapter.check()]
    except TimeoutError:
        return [Finding(part, "bad", f"gave no answer within {PATIENCE:g} seconds")], False
    except CrmkitError as error:
        return [Finding(part, "bad", str(error))], False
    except Exception as error:  # an adapter's own code
        return [Finding(part, "bad", f"its check raised {type(error).__name__}: {error}")], False
    return found or [Finding(part, "ok", "answers")], True


async def _left(part: str, adapter: Any, low: Balance | None) -> list[Finding]:
    """What is left on its account. That it could not be told is worth knowing, and harms nothing."""
    try:
        async with asyncio.timeout(BALANCE):
            left: Balance | None = await adapter.balance()
    except TimeoutError:
        return [Finding(part, "note", f"did not tell within {BALANCE:g} seconds what is left on its account")]
    except CrmkitError as error:
        return [Finding(part, "note", f"what is left on its account is not known: {error}")]
    except Exception as error:  # an adapter's own code
        what = f"asked what is left on its account it raised {type(error).__name__}: {error}"
        return [Finding(part, "note", what)]
    return list(_told(part, left, low))


def _told(part: str, left: Balance | None, low: Balance | None) -> Iterator[Finding]:
    if left is None:
        return
    amount, currency = (str(left.amount), left.currency) if isinstance(left, Money) else (left, None)
    text, facts = f"{in_words(left)} left on its account", {"balance": amount, "currency": currency}
    is_little = False if low is None else is_low(left, low)
    if low is None or is_little is False:
        yield Finding(part, "ok", text, facts)
    elif is_little:
        yield Finding(part, "bad", f"{text}, less than {in_words(low)} (balance_low); pay in at its vendor", facts)
    else:
        do = f"write it in {currency}" if currency else "write a number of messages"
        yield Finding(part, "note", f"{text}, and balance_low is {in_words(low)}; {do}", facts)


async def _closed(adapter: "Adapter") -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await adapter.close()
    except Exception:  # an adapter's own code, which was asked nothing
        return
