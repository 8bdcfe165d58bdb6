"""What adapters remember, locked with the installation's key: the database alone gives no token away."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from crmkit.core.errors import ConfigError

_KEY = "put a long random text into the environment variable CRMKIT_KEY, and keep it"


class Vault:
    """Locks and unlocks values.

    Args:
        key: the installation's key; None: nothing can be locked or unlocked.
    """

    def __init__(self, key: SecretStr | None) -> None:
        self._key = key

    def lock(self, account: str, values: Mapping[str, Any]) -> dict[str, str | None]:
        """Values (JSON types) as they are kept; None stays None.

        Raises:
            ConfigError: there is no key, or nothing to encrypt with.
        """
        fernet = self._fernet(account)
        return {
            name: None if value is None else fernet.encrypt(json.dumps(value).encode()).decode()
            for name, value in values.items()
        }

    def unlock(self, account: str, locked: Mapping[str, str]) -> dict[str, Any]:
        """The values again.

        Raises:
            ConfigError: there is no key, or another than they were locked with.
        """
        fernet = self._fernet(account)
        from cryptography.fernet import InvalidToken

        try:
            return {name: json.loads(fernet.decrypt(value.encode())) for name, value in locked.items()}
        except InvalidToken:
            raise ConfigError(
                "what it remembers was locked with another key",
                who=account,
                operation="remember",
                do=f"set CRMKIT_KEY to that key, or run `crmkit connect {account}` again",
            ) from None

    def _fernet(self, account: str) -> Any:
        if self._key is None:
            raise ConfigError("there is no key to lock what it remembers", who=account, operation="remember", do=_KEY)
        try:
            from cryptography.fernet import Fernet
        except ModuleNotFoundError:
            raise ConfigError(
                "cryptography is not installed",
                who=account,
                operation="remember",
                do="pip install 'crmkit[memory]'",
            ) from None
        secret = hashlib.sha256(b"crmkit memory\x00" + self._key.get_secret_value().encode()).digest()
        return Fernet(base64.urlsafe_b64encode(secret))
