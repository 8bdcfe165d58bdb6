"""What tells a vendor's news about our messages from news about anybody else's who sends through the same account.

Each message carries its key, and the origin of who sends it. Two installations on one account (a trial beside the shop)
have keys alike; without this the one would believe what became of the other's messages.
"""

#: What the key and the origin are called at a vendor.
KEY, ORIGIN = "crmkit_key", "crmkit_origin"


def is_ours(key: str | None, origin: str | None, ours: str) -> bool:
    """Whether news are of a message of ours.

    Args:
        key, origin: what the message carries.
        ours: the adapter's origin.
    """
    return bool(key) and bool(ours) and origin == ours
