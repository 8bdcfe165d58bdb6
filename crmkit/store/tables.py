"""Every table of the core in one metadata; a plugin's tables have their own."""

from sqlalchemy import BigInteger, Integer, MetaData, Table
from sqlmodel import SQLModel

from crmkit.core.account import AccountRow, CursorRow, HintRow, InboxRow, MemoryRow, QuarantineRow, RunRow, StrangerRow
from crmkit.core.broadcast import BroadcastMemberRow, BroadcastRow
from crmkit.core.contact import ContactRow
from crmkit.core.customer import AddressRow, ConsentRow, IdentityRow, ProfileRow, SuppressionRow
from crmkit.core.forgotten import ForgottenRow, SecretRow
from crmkit.core.instance import InstanceRow
from crmkit.core.interaction import InteractionRow, PendingRow, QuietRow, TimerRow
from crmkit.core.message import AttemptRow, InterventionRow, MessageRow, ReceiptRow, TemplateRow
from crmkit.core.order import LineRow, OrderRow, ParcelRow, PaymentRow, RefundRow, ReturnRow, ReviewRow
from crmkit.core.plan import PlanFileRow
from crmkit.core.quota import PauseRow, QuotaRow
from crmkit.core.silence import RhythmRow
from crmkit.core.token import TokenRow

metadata: MetaData = SQLModel.metadata


def table_of(model: type[SQLModel]) -> Table:
    """The table a model stands for."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


account = table_of(AccountRow)
cursor = table_of(CursorRow)
inbox = table_of(InboxRow)
hint = table_of(HintRow)
stranger = table_of(StrangerRow)
memory = table_of(MemoryRow)
quarantine = table_of(QuarantineRow)
run = table_of(RunRow)
profile = table_of(ProfileRow)
identity = table_of(IdentityRow)
address = table_of(AddressRow)
consent = table_of(ConsentRow)
suppression = table_of(SuppressionRow)
forgotten = table_of(ForgottenRow)
secret = table_of(SecretRow)
instance = table_of(InstanceRow)
orders = table_of(OrderRow)
line = table_of(LineRow)
parcel = table_of(ParcelRow)
payment = table_of(PaymentRow)
refund = table_of(RefundRow)
goods_return = table_of(ReturnRow)
review = table_of(ReviewRow)
interaction = table_of(InteractionRow)
pending = table_of(PendingRow)
timer = table_of(TimerRow)
quiet = table_of(QuietRow)
template = table_of(TemplateRow)
message = table_of(MessageRow)
attempt = table_of(AttemptRow)
receipt = table_of(ReceiptRow)
intervention = table_of(InterventionRow)
plan_file = table_of(PlanFileRow)
broadcast = table_of(BroadcastRow)
broadcast_member = table_of(BroadcastMemberRow)
quota = table_of(QuotaRow)
pause = table_of(PauseRow)
token = table_of(TokenRow)
contact = table_of(ContactRow)
rhythm = table_of(RhythmRow)

#: Tables of the core, in the order rows may be inserted.
CORE: tuple[Table, ...] = (
    account,
    cursor,
    inbox,
    hint,
    stranger,
    memory,
    quarantine,
    run,
    profile,
    identity,
    address,
    consent,
    suppression,
    forgotten,
    secret,
    instance,
    orders,
    line,
    parcel,
    payment,
    refund,
    goods_return,
    review,
    interaction,
    pending,
    timer,
    quiet,
    template,
    message,
    attempt,
    receipt,
    intervention,
    plan_file,
    quota,
    pause,
    token,
    contact,
    rhythm,
)

# Numbers are 64 bits wide: ids and minor units outgrow 32. SQLite's INTEGER is, and only INTEGER keys are its row ids.
for _table in CORE:
    for _column in _table.columns:
        if isinstance(_column.type, Integer):
            _column.type = BigInteger().with_variant(Integer(), "sqlite")
