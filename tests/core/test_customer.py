"""Who is who: recognising, and families as a pure function of all evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.customer import SHARED_LIMIT, Identity, families, normal_email, normal_phone, recognise
from crmkit.core.records import Address, Buyer

SHOP = "shop:1"


def weak(value: str) -> Identity:
    return Identity("email", "", value)


def strong(value: str, scope: str = SHOP) -> Identity:
    return Identity("buyer", scope, value, is_strong=True)


identities = st.one_of(
    st.sampled_from(["a", "b", "c"]).map(weak),
    st.builds(strong, st.sampled_from(["x", "y"]), st.sampled_from([SHOP, "shop:2"])),
)
evidence = st.dictionaries(st.integers(1, 6), st.sets(identities, max_size=3), min_size=1)


def groups(found: list, names: dict[int, int]) -> set[tuple[frozenset[int], bool]]:
    return {(frozenset(names[member] for member in family.members), family.needs_review) for family in found}


@given(known=evidence, data=st.data())
# SEMANTICS 9, 10
def test_families_depend_on_the_evidence_alone(known: dict[int, set[Identity]], data: st.DataObject) -> None:
    """Not on how profiles are numbered, nor on the order they are given in."""
    merges = {p: data.draw(st.none() | st.sampled_from(sorted(known))) for p in known}
    numbers = data.draw(st.permutations(sorted(known)))
    renamed = dict(zip(sorted(known), numbers, strict=True))
    back = {number: profile for profile, number in renamed.items()}
    order = data.draw(st.permutations(sorted(known)))
    again = families(
        {renamed[p]: known[p] for p in order},
        {renamed[p]: None if merges[p] is None else renamed[merges[p]] for p in order},
    )
    assert groups(again, back) == groups(families(known, merges), {p: p for p in known})


@given(known=evidence)
# SEMANTICS 10
def test_no_family_holds_two_strong_identities_of_one_scope_unless_a_person_says_so(
    known: dict[int, set[Identity]],
) -> None:
    for family in families(known, {}):
        held = [i for member in family.members for i in known[member] if i.is_strong]
        if len(family.members) > 1:
            assert len({(i.scope) for i in held}) == len({(i.scope, i.value) for i in held})
    assert sorted(m for family in families(known, {}) for m in family.members) == sorted(known)


# SEMANTICS 10
def test_a_shared_address_joins_a_guest_with_a_buyer() -> None:
    (family,) = families({1: {weak("a")}, 2: {strong("x"), weak("a")}}, {})
    assert (family.members, family.id, family.needs_review) == ((1, 2), 1, False)


# SEMANTICS 10
def test_two_buyers_of_one_shop_are_not_joined_by_a_shared_address() -> None:
    found = families({1: {weak("a")}, 2: {strong("x"), weak("a")}, 3: {strong("y"), weak("a")}}, {})
    assert [(family.members, family.needs_review) for family in found] == [((1,), True), ((2,), True), ((3,), True)]


# SEMANTICS 10
def test_buyers_of_two_shops_are_joined_by_a_shared_address() -> None:
    (family,) = families({1: {strong("x"), weak("a")}, 2: {strong("x", "shop:2"), weak("a")}}, {})
    assert family.members == (1, 2)


@pytest.mark.parametrize(("count", "joined"), [(SHARED_LIMIT, True), (SHARED_LIMIT + 1, False)])
# SEMANTICS 10
def test_what_too_many_share_joins_nobody(count: int, joined: bool) -> None:
    found = families({number: {weak("a")} for number in range(count)}, {})
    assert len(found) == (1 if joined else count)


# SEMANTICS 10, 11
def test_a_person_may_merge_what_evidence_may_not() -> None:
    found = families({1: {strong("x"), weak("a")}, 2: {strong("y"), weak("a")}}, {2: 1})
    assert [(family.members, family.needs_review) for family in found] == [((1, 2), False)]


# SEMANTICS 10
def test_a_guest_is_known_by_email_else_phone_else_order() -> None:
    def key(**fields: str) -> str:
        return recognise(Buyer(**fields), shop=SHOP, region="US", order="1:7").key  # type: ignore[arg-type]

    assert key(external_id="b", email="a@example.com") == "buyer:shop:1:b"
    assert key(external_id="b", scope="vendor") == "buyer:vendor:b"
    assert key(email="A@Example.com", phone="202 555 0123") == "email:a@example.com"
    assert key(phone="202 555 0123") == "phone:+12025550123"
    assert key(name="Ann") == key(email="a***@example.com") == key(email="a@@b", phone="12") == "order:1:7"
    assert recognise(Buyer(name="Ann"), shop=SHOP, region=None, order=None).key == ""


# SEMANTICS 10, 38
def test_relays_and_tokens_reach_and_never_recognise() -> None:
    # SEMANTICS 12, 38
    values = {"relay_email": "X@relay.example", "virtual_phone": "1", "order_token": "1"}
    ways = [Address(kind=kind, value=value) for kind, value in values.items()]
    found = recognise(Buyer(addresses=tuple(ways)), shop=SHOP, region=None, order="1:7")
    assert found.identities == []
    assert [(scope, address.kind) for scope, address in found.addresses] == [
        ("", "relay_email"),
        ("1:7", "virtual_phone"),
        ("1:7", "order_token"),
    ]
    assert found.addresses[0][1].value.endswith("@relay.example")


# SEMANTICS 4, 10
def test_what_is_masked_is_neither_identity_nor_address() -> None:
    found = recognise(Buyer(email="a@example.com", masked=frozenset({"email"})), shop=SHOP, region=None, order="1:7")
    assert (found.identities, found.addresses, found.flaws) == ([], [], {})


@pytest.mark.parametrize("written", ["a@@b", "a@", "@b", "a b@c.de", "a***@b.de", ""])
def test_what_is_no_email_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is"):
        normal_email(written)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (" Ann@Example.COM ", "ann@example.com"),
        ("用户@例子.公司", "用户@xn--fsqu00a.xn--55qx5d"),
        ("a+b@c.de", "a+b@c.de"),
    ],
)
def test_email_addresses_are_compared_in_one_form(written: str, normal: str) -> None:
    assert normal_email(written) == normal


@pytest.mark.parametrize(("written", "region"), [("12", "US"), ("138", None), ("139****8888", "CN"), ("x", "US")])
def test_what_is_no_phone_number_is_refused(written: str, region: str | None) -> None:
    with pytest.raises(ValueError, match=r"is|has"):
        normal_phone(written, region)


# SEMANTICS 10
def test_a_relays_extension_is_refused() -> None:
    with pytest.raises(ValueError, match="extension"):
        normal_phone("+86 138 0013 8000 ext. 1234", None)
