"""Secrets in settings are found however deep they stand, and where."""

from pydantic import BaseModel, Field, SecretStr

from crmkit import secrets_in
from crmkit.core.secret import secrets_by_place


class Hook(BaseModel):
    secret: list[SecretStr]


class Settings(BaseModel):
    hook: Hook
    table: dict[str, SecretStr]
    key: SecretStr = Field(alias="api-key")
    default: SecretStr = SecretStr("d4")
    sender: str = "TEAHOUSE"


MADE = Settings.model_validate({"hook": {"secret": ["a1", "b2"]}, "table": {"x": "c3"}, "api-key": "e5"})


def test_every_secret_of_settings_is_known() -> None:
    assert set(secrets_in(MADE)) == {"a1", "b2", "c3", "d4", "e5"}
    assert list(secrets_in("TEAHOUSE")) == []


def test_what_was_set_is_known_by_its_place_as_it_is_written() -> None:
    found = {place: one.get_secret_value() for place, one in secrets_by_place(MADE, ("shop",), only_set=True)}
    assert found == {
        ("shop", "hook", "secret", 0): "a1",
        ("shop", "hook", "secret", 1): "b2",
        ("shop", "table", "x"): "c3",
        ("shop", "api-key"): "e5",
    }
