"""Secrets in settings, however deep: which there are, and where they stand."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr


def secrets_in(settings: Any) -> Iterator[str]:
    """Every secret in settings, or in anything that holds some; what it is by default too."""
    return (secret.get_secret_value() for _, secret in secrets_by_place(settings))


def secrets_by_place(
    settings: Any, at: tuple[str | int, ...] = (), *, only_set: bool = False
) -> Iterator[tuple[tuple[str | int, ...], SecretStr]]:
    """(place, secret): keys as they are written, and numbers in lists, behind `at`.

    Args:
        settings: a model, or anything that holds models and secrets.
        at: where it stands itself.
        only_set: leave out what nobody set.
    """
    inner: Iterator[tuple[str | int, Any]]
    if isinstance(settings, SecretStr):
        yield at, settings
        return
    if isinstance(settings, BaseModel):
        fields = type(settings).model_fields.items()
        known = settings.model_fields_set
        inner = (
            (info.alias or name, getattr(settings, name)) for name, info in fields if not only_set or name in known
        )
    elif isinstance(settings, dict):
        inner = ((str(key), one) for key, one in settings.items())
    elif isinstance(settings, list | tuple):
        inner = ((number, one) for number, one in enumerate(settings))
    else:
        return
    for key, one in inner:
        yield from secrets_by_place(one, (*at, key), only_set=only_set)
