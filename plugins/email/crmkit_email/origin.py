"""What tells a vendor's news about our messages from news about anybody else's who sends through the same account.

Each message carries its key, and where its news should come in. Two installations on one account (a trial beside the
shop) have keys alike; without this the one would believe what became of the other's messages.
"""

from hashlib import blake2b

from crmkit import Account

#: What the key and the origin are called at a vendor.
KEY, ORIGIN = "crmkit_key", "crmkit_origin"


def origin_of(account: Account) -> str:
    """Where news of an account's messages come in, as a short hash; empty where nothing comes in."""
    url = account.webhook_url
    return "" if url is None else blake2b(url.encode(), digest_size=8).hexdigest()


def is_ours(key: str | None, origin: str | None, account: Account) -> bool:
    """Whether news are of a message of this account; those of one sent before it had a web address are."""
    return bool(key) and (origin or "") in {"", origin_of(account)}
