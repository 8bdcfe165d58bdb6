"""Why something cannot be read, without what it says: reasons are logged and listed, what is read may be private."""

from pydantic import ValidationError

from crmkit.core.errors import CrmkitError

#: What these errors say may quote what was read.
_QUOTING = frozenset({"value_error", "assertion_error", "union_tag_invalid"})


def misread(error: Exception) -> str:
    """Where and why something is not what was expected.

    Args:
        error: pydantic's, of which it is the first place and its rule; an error of crmkit's, whose author wrote what it
            says (`PayloadError("a trade without a number")`); of any other, which may quote what it found, its type.
    """
    if isinstance(error, CrmkitError):
        return error.what
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    parts = (str(part) if isinstance(part, int) or part.isidentifier() else "*" for part in first["loc"])
    place = ".".join(parts)
    why = first["type"] if first["type"] in _QUOTING else first["msg"]
    return f"{place}: {why}" if place else why
