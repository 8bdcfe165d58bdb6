"""The error tree. A class exists only if some caller acts differently on it.

```
CrmkitError
├── ConfigError          the operator fixes crmkit.toml, a template or the command line; exit code 2
│   └── DatabaseError    the database is missing, of another version, or cannot be written; exit code 2
├── PluginError          the plugin's author fixes it; the run goes on without that plugin's effects
└── AdapterError         a vendor, file or server did not do what was asked
    ├── RetryableError   try again later, after `retry_after` if the vendor said so
    ├── AuthError        credentials refused: pause that account, keep its messages
    ├── UnsupportedError this vendor cannot express what was asked: fails that message
    ├── RefusedError     it understood and said no: fails that message or that record
    ├── PayloadError     not what we know: quarantine it
    └── DoubtError       it left, and no verdict came back: the message is in doubt
```

The text of every error is `<who> <operation>: <what happened>; <what to do>`, made from fields that stay on the object.
"""

from datetime import timedelta


class CrmkitError(Exception):
    """An error with its place: who was doing what, what happened, what to do next.

    Args:
        what: what happened, with the value received.
        who: the part at work: a file, a plugin, an account, a gateway.
        operation: what it was doing.
        do: what the reader should do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, who: str = "", operation: str = "", do: str = "") -> None:
        self.what, self.who, self.operation, self.do = what, who, operation, do
        super().__init__(what)

    def __str__(self) -> str:
        place = " ".join(part for part in (self.who, self.operation) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text}; {self.do}" if self.do else text


class ConfigError(CrmkitError):
    """The operator fixes the configuration, a template or the command."""

    exit_code = 2


class DatabaseError(ConfigError):
    """The database is missing, of another version, or cannot be written."""


class PluginError(CrmkitError):
    """A plugin broke its contract; its author fixes it and the run goes on."""


class AdapterError(CrmkitError):
    """A vendor, file or server did not do what was asked of it."""


class RetryableError(AdapterError):
    """Nothing left, or the vendor said "not now": trying again cannot double anything.

    Args:
        retry_after: how long the vendor asked us to wait, if it said so.
    """

    def __init__(
        self, what: str, *, who: str = "", operation: str = "", do: str = "", retry_after: timedelta | None = None
    ) -> None:
        super().__init__(what, who=who, operation=operation, do=do)
        self.retry_after = retry_after


class AuthError(AdapterError):
    """The credentials were refused: the account pauses, its messages stay."""


class UnsupportedError(AdapterError):
    """This vendor cannot express what was asked."""


class RefusedError(AdapterError):
    """The vendor understood what was asked and said no; it would say so again.

    Args:
        status: its status, an HTTP status code.
        body: what it wrote back, cut; it may hold personal data, so no error's text shows it.
    """

    def __init__(
        self, what: str, *, who: str = "", operation: str = "", do: str = "", status: int = 0, body: str = ""
    ) -> None:
        super().__init__(what, who=who, operation=operation, do=do)
        self.status = status
        self.body = body


class PayloadError(AdapterError):
    """What came in is not what we know."""


class DoubtError(AdapterError):
    """The request left and no verdict came back."""
