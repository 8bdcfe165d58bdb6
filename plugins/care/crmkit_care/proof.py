"""The code that proves an address a customer left on a page: it goes there, and to nobody else."""

from collections.abc import Iterator

from crmkit import Action, ContactLeft, Crm, Send, on

_VIA = {"email": ("email",), "phone": ("sms",)}


@on(ContactLeft)
def send_code(event: ContactLeft, crm: Crm) -> Iterator[Action]:
    """Send the code; once it has expired there is nothing to send."""
    left = event.contact
    if left is not None and left.kind in _VIA:
        yield Send("prove-contact", via=_VIA[left.kind], to=left.address, context={"code": left.code})
