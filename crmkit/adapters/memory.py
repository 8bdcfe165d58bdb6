"""What an adapter remembers from run to run: tokens that rotate, and whatever else only it understands.

Durable and per account, encrypted where it is kept. Reading needs no waiting; what is kept is stored before the call
returns, so that a token that was exchanged for a new one is never lost.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from crmkit.core.errors import ConfigError

#: Stores values by name; None forgets one.
Keep = Callable[[Mapping[str, Any]], Awaitable[None]]


class Memory(Mapping[str, Any]):
    """Values by name: `self.memory["token"]`, `await self.memory.keep(token=...)`.

    Args:
        values: what was kept before.
        keep: how it is stored; without it nothing can be kept.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, keep: Keep | None = None) -> None:
        self._values = dict(values or {})
        self._keep = keep

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Memory({', '.join(sorted(self._values))})"

    async def keep(self, **values: Any) -> None:
        """Remember values (JSON types) under their names; None forgets one.

        Raises:
            ConfigError: there is no place to keep them, or no key to encrypt them with.
        """
        if self._keep is None:
            raise ConfigError("nothing can be remembered here", operation="remember", do="run it in an installation")
        await self._keep(values)
        self._values.update(values)
        self._values = {name: value for name, value in self._values.items() if value is not None}
