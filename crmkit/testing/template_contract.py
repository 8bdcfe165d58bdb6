"""What a gateway that has something to say of templates is held to: it is shown, and no template brings it down."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter

from crmkit.adapters.gateway import Gateway
from crmkit.core.form import Caution, FormSpec, Wording
from crmkit.testing.contract import AdapterContract
from crmkit.testing.exchange import Fixture

#: What front matter may say of a gateway, whatever it understands.
FORMS: Mapping[str, FormSpec | None] = {
    "nothing-said": None,
    "empty": FormSpec(),
    "odd": FormSpec("", "  ", {"": "{{", "名": "customer.name"}, {"international": 7, "more": [None, {"x": 1}]}),
    "long": FormSpec("x" * 1000, "签" * 1000, {f"p{number}": "order.number" for number in range(200)}),
}


class TemplateContract(AdapterContract):
    """`check_template` says in words what is wrong with a template."""

    adapter: ClassVar[type[Gateway]]

    def wording(self, changes: Mapping[str, Any] | None = None) -> Wording:
        """A standard template of the gateway's channel with these changes: fields of `Wording`, `form` as a table."""
        channel = self.adapter.channel
        values = {
            "name": "order-shipped",
            "locale": "en",
            "channel": channel,
            "file": f"templates/order-shipped.en.{channel}.txt",
            "purpose": "transactional",
            "text": "Dear {{ customer.name }}, your order {{ order.number }} has left us.",
        }
        return TypeAdapter(Wording).validate_python({**values, **(changes or {})})

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture; raises what the adapter raises."""
        if sample.given != "template":
            return await super().given(adapter, sample)
        found = list(adapter.check_template(self.wording(sample.document["template"])))
        warnings = [str(one) for one in found if isinstance(one, Caution)]
        problems = [str(one) for one in found if not isinstance(one, Caution)]
        return {"problems": problems, **({"warnings": warnings} if warnings else {})}

    def test_what_it_says_of_templates_is_shown(self) -> None:
        """A template it would not send, and one it would."""
        name, found = self.adapter.name, self.samples("template")
        if self.adapter.check_template is Gateway.check_template:
            assert not found, f"{name} has fixtures of templates, and says nothing of any"
            pytest.skip(f"{name} says nothing of templates")
        said = [bool(one.document.get("problems") or one.document.get("warnings")) for one in found]
        do = 'a file with {"template": {"form": {...}}} and what comes of it as "problems"'
        assert True in said, f"{name} has check_template, and no fixture shows a template that it would not send: {do}"
        assert False in said, f"{name} has check_template, and no fixture shows a template that it would send: {do}"

    @pytest.mark.parametrize("form", FORMS)
    def test_of_any_template_it_says_something_in_words(self, form: str) -> None:
        """Whatever front matter says of it, in either purpose; the same when it is asked again."""
        if self.adapter.check_template is Gateway.check_template:
            pytest.skip(f"{self.adapter.name} says nothing of templates")
        if FORMS[form] is None and self.adapter.needs_form:
            pytest.skip(f"{self.adapter.name} is asked of no template that says nothing of it")
        gateway = self.make()
        for purpose in ("transactional", "marketing"):
            for text in ("", "Dear {{ customer.name }}{% if order %}, {{ order.number }}{% endif %}", "}} {{ {% x"):
                one = self.wording({"purpose": purpose, "text": text, "form": FORMS[form]})
                said = list(gateway.check_template(one))
                in_words = all(isinstance(line, str) and line.strip() for line in said)
                assert in_words, f"{self.adapter.name}: check_template answers {said!r}"
                assert said == list(gateway.check_template(one)), f"{self.adapter.name}: asked again it says otherwise"


__all__ = ["TemplateContract"]
