"""crmkit: customer-relationship management for people who sell online, built as a plugin framework.

This is a plugin author's whole vocabulary; a plugin imports `crmkit` and `crmkit.testing` and nothing deeper.
Names are imported when they are first used, so that `crmkit --version` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "crmkit.core.hooks": "hookimpl on every Handler Outgoing Policy Verdict Tables Routes Crm PluginSettings",
    "crmkit.core.broadcast": "Audience",
    "crmkit.core.actions": "Action Send Broadcast Note Emit Later Cancel Save staff Staff",
    "crmkit.core.events": (
        "Event CustomerCreated StageChanged ConsentChanged ContactLeft ContactProven"
        " OrderPlaced OrderPaid OrderShipped OrderDelivered"
        " OrderCompleted OrderCancelled OrderReopened OrderPromiseChanged ParcelShipped ParcelDelivered RefundRequested"
        " OrderRefunded ReviewPosted ShipmentLate MessageReceived MessageSent MessageDelivered MessageBounced"
        " MessageFailed MessageHeld MessageSuppressed ComplaintFiled ComplaintEscalated ComplaintResolved"
        " ComplaintReopened ComplaintClosed StatementConfirmed SurveyAnswered SilenceNoticed SilenceEnded"
        " ScheduleDue"
        " GatewayPaused Noted EVENTS"
    ),
    "crmkit.core.records": (
        "Record CustomerRecord OrderRecord LineRecord ParcelRecord PaymentRecord RefundRecord ReturnRecord ReviewRecord"
        " InboundRecord AnswerRecord ConsentRecord ReceiptRecord SuppressionRecord Address AmountBasis Buyer"
        " OrderStatus PaymentState RECORDS"
    ),
    "crmkit.core.customer": "Customer",
    "crmkit.core.contact": "Contact",
    "crmkit.core.order": "Order Line Parcel Refund Review",
    "crmkit.core.survey": "Survey Question",
    "crmkit.core.trouble": "Trouble",
    "crmkit.core.account": "Shop",
    "crmkit.core.money": "Money",
    "crmkit.core.duration": "Duration",
    "crmkit.core.message": "Message Receipt Reason State",
    "crmkit.core.form": "Caution Form FormSpec Wording signed",
    "crmkit.core.optout": "opt_out",
    "crmkit.core.errors": (
        "CrmkitError ConfigError DatabaseError PluginError AdapterError RetryableError AuthError UnsupportedError"
        " RefusedError PayloadError DoubtError"
    ),
    "crmkit.core.secret": "secrets_in",
    "crmkit.core.columns": "UtcTime Json",
    "crmkit.adapters.http": "answered_at retry_after",
    "crmkit.adapters.door": (
        "Call Hmac PathSecret Reply SecretPath Signature StandardWebhooks Verified fingerprint is_fresh same secrets_of"
    ),
    "crmkit.adapters.stream": "Page Ref Refused Reread Start stream window",
    "crmkit.adapters.adapter": "Account Ask",
    "crmkit.adapters.source": "Source SourceSettings",
    "crmkit.adapters.gateway": "Gateway GatewaySettings",
    "crmkit.cli.extension": "with_crm",
    "crmkit.web.extension": "PageCrm",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = ["__version__", *sorted(_MODULE)]


def __getattr__(name: str) -> Any:
    module = _MODULE.get(name)
    if module is None:
        raise AttributeError(f"module 'crmkit' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from crmkit.adapters.adapter import (
        Account as Account,
    )
    from crmkit.adapters.adapter import (
        Ask as Ask,
    )
    from crmkit.adapters.door import (
        Call as Call,
    )
    from crmkit.adapters.door import (
        Hmac as Hmac,
    )
    from crmkit.adapters.door import (
        PathSecret as PathSecret,
    )
    from crmkit.adapters.door import (
        Reply as Reply,
    )
    from crmkit.adapters.door import (
        SecretPath as SecretPath,
    )
    from crmkit.adapters.door import (
        Signature as Signature,
    )
    from crmkit.adapters.door import (
        StandardWebhooks as StandardWebhooks,
    )
    from crmkit.adapters.door import (
        Verified as Verified,
    )
    from crmkit.adapters.door import (
        fingerprint as fingerprint,
    )
    from crmkit.adapters.door import (
        is_fresh as is_fresh,
    )
    from crmkit.adapters.door import (
        same as same,
    )
    from crmkit.adapters.door import (
        secrets_of as secrets_of,
    )
    from crmkit.adapters.gateway import (
        Gateway as Gateway,
    )
    from crmkit.adapters.gateway import (
        GatewaySettings as GatewaySettings,
    )
    from crmkit.adapters.http import (
        answered_at as answered_at,
    )
    from crmkit.adapters.http import (
        retry_after as retry_after,
    )
    from crmkit.adapters.source import (
        Source as Source,
    )
    from crmkit.adapters.source import (
        SourceSettings as SourceSettings,
    )
    from crmkit.adapters.stream import (
        Page as Page,
    )
    from crmkit.adapters.stream import (
        Ref as Ref,
    )
    from crmkit.adapters.stream import (
        Refused as Refused,
    )
    from crmkit.adapters.stream import (
        Reread as Reread,
    )
    from crmkit.adapters.stream import (
        Start as Start,
    )
    from crmkit.adapters.stream import (
        stream as stream,
    )
    from crmkit.adapters.stream import (
        window as window,
    )
    from crmkit.cli.extension import (
        with_crm as with_crm,
    )
    from crmkit.core.account import (
        Shop as Shop,
    )
    from crmkit.core.actions import (
        Action as Action,
    )
    from crmkit.core.actions import (
        Broadcast as Broadcast,
    )
    from crmkit.core.actions import (
        Cancel as Cancel,
    )
    from crmkit.core.actions import (
        Emit as Emit,
    )
    from crmkit.core.actions import (
        Later as Later,
    )
    from crmkit.core.actions import (
        Note as Note,
    )
    from crmkit.core.actions import (
        Save as Save,
    )
    from crmkit.core.actions import (
        Send as Send,
    )
    from crmkit.core.actions import (
        Staff as Staff,
    )
    from crmkit.core.actions import (
        staff as staff,
    )
    from crmkit.core.broadcast import (
        Audience as Audience,
    )
    from crmkit.core.columns import (
        Json as Json,
    )
    from crmkit.core.columns import (
        UtcTime as UtcTime,
    )
    from crmkit.core.contact import (
        Contact as Contact,
    )
    from crmkit.core.customer import (
        Customer as Customer,
    )
    from crmkit.core.duration import (
        Duration as Duration,
    )
    from crmkit.core.errors import (
        AdapterError as AdapterError,
    )
    from crmkit.core.errors import (
        AuthError as AuthError,
    )
    from crmkit.core.errors import (
        ConfigError as ConfigError,
    )
    from crmkit.core.errors import (
        CrmkitError as CrmkitError,
    )
    from crmkit.core.errors import (
        DatabaseError as DatabaseError,
    )
    from crmkit.core.errors import (
        DoubtError as DoubtError,
    )
    from crmkit.core.errors import (
        PayloadError as PayloadError,
    )
    from crmkit.core.errors import (
        PluginError as PluginError,
    )
    from crmkit.core.errors import (
        RefusedError as RefusedError,
    )
    from crmkit.core.errors import (
        RetryableError as RetryableError,
    )
    from crmkit.core.errors import (
        UnsupportedError as UnsupportedError,
    )
    from crmkit.core.events import (
        EVENTS as EVENTS,
    )
    from crmkit.core.events import (
        ComplaintClosed as ComplaintClosed,
    )
    from crmkit.core.events import (
        ComplaintEscalated as ComplaintEscalated,
    )
    from crmkit.core.events import (
        ComplaintFiled as ComplaintFiled,
    )
    from crmkit.core.events import (
        ComplaintReopened as ComplaintReopened,
    )
    from crmkit.core.events import (
        ComplaintResolved as ComplaintResolved,
    )
    from crmkit.core.events import (
        ConsentChanged as ConsentChanged,
    )
    from crmkit.core.events import (
        ContactLeft as ContactLeft,
    )
    from crmkit.core.events import (
        ContactProven as ContactProven,
    )
    from crmkit.core.events import (
        CustomerCreated as CustomerCreated,
    )
    from crmkit.core.events import (
        Event as Event,
    )
    from crmkit.core.events import (
        GatewayPaused as GatewayPaused,
    )
    from crmkit.core.events import (
        MessageBounced as MessageBounced,
    )
    from crmkit.core.events import (
        MessageDelivered as MessageDelivered,
    )
    from crmkit.core.events import (
        MessageFailed as MessageFailed,
    )
    from crmkit.core.events import (
        MessageHeld as MessageHeld,
    )
    from crmkit.core.events import (
        MessageReceived as MessageReceived,
    )
    from crmkit.core.events import (
        MessageSent as MessageSent,
    )
    from crmkit.core.events import (
        MessageSuppressed as MessageSuppressed,
    )
    from crmkit.core.events import (
        Noted as Noted,
    )
    from crmkit.core.events import (
        OrderCancelled as OrderCancelled,
    )
    from crmkit.core.events import (
        OrderCompleted as OrderCompleted,
    )
    from crmkit.core.events import (
        OrderDelivered as OrderDelivered,
    )
    from crmkit.core.events import (
        OrderPaid as OrderPaid,
    )
    from crmkit.core.events import (
        OrderPlaced as OrderPlaced,
    )
    from crmkit.core.events import (
        OrderPromiseChanged as OrderPromiseChanged,
    )
    from crmkit.core.events import (
        OrderRefunded as OrderRefunded,
    )
    from crmkit.core.events import (
        OrderReopened as OrderReopened,
    )
    from crmkit.core.events import (
        OrderShipped as OrderShipped,
    )
    from crmkit.core.events import (
        ParcelDelivered as ParcelDelivered,
    )
    from crmkit.core.events import (
        ParcelShipped as ParcelShipped,
    )
    from crmkit.core.events import (
        RefundRequested as RefundRequested,
    )
    from crmkit.core.events import (
        ReviewPosted as ReviewPosted,
    )
    from crmkit.core.events import (
        ScheduleDue as ScheduleDue,
    )
    from crmkit.core.events import (
        ShipmentLate as ShipmentLate,
    )
    from crmkit.core.events import (
        SilenceEnded as SilenceEnded,
    )
    from crmkit.core.events import (
        SilenceNoticed as SilenceNoticed,
    )
    from crmkit.core.events import (
        StageChanged as StageChanged,
    )
    from crmkit.core.events import (
        StatementConfirmed as StatementConfirmed,
    )
    from crmkit.core.events import (
        SurveyAnswered as SurveyAnswered,
    )
    from crmkit.core.form import (
        Caution as Caution,
    )
    from crmkit.core.form import (
        Form as Form,
    )
    from crmkit.core.form import (
        FormSpec as FormSpec,
    )
    from crmkit.core.form import (
        Wording as Wording,
    )
    from crmkit.core.form import (
        signed as signed,
    )
    from crmkit.core.hooks import (
        Crm as Crm,
    )
    from crmkit.core.hooks import (
        Handler as Handler,
    )
    from crmkit.core.hooks import (
        Outgoing as Outgoing,
    )
    from crmkit.core.hooks import (
        PluginSettings as PluginSettings,
    )
    from crmkit.core.hooks import (
        Policy as Policy,
    )
    from crmkit.core.hooks import (
        Routes as Routes,
    )
    from crmkit.core.hooks import (
        Tables as Tables,
    )
    from crmkit.core.hooks import (
        Verdict as Verdict,
    )
    from crmkit.core.hooks import (
        every as every,
    )
    from crmkit.core.hooks import (
        hookimpl as hookimpl,
    )
    from crmkit.core.hooks import (
        on as on,
    )
    from crmkit.core.message import (
        Message as Message,
    )
    from crmkit.core.message import (
        Reason as Reason,
    )
    from crmkit.core.message import (
        Receipt as Receipt,
    )
    from crmkit.core.message import (
        State as State,
    )
    from crmkit.core.money import (
        Money as Money,
    )
    from crmkit.core.optout import (
        opt_out as opt_out,
    )
    from crmkit.core.order import (
        Line as Line,
    )
    from crmkit.core.order import (
        Order as Order,
    )
    from crmkit.core.order import (
        Parcel as Parcel,
    )
    from crmkit.core.order import (
        Refund as Refund,
    )
    from crmkit.core.order import (
        Review as Review,
    )
    from crmkit.core.records import (
        RECORDS as RECORDS,
    )
    from crmkit.core.records import (
        Address as Address,
    )
    from crmkit.core.records import (
        AmountBasis as AmountBasis,
    )
    from crmkit.core.records import (
        AnswerRecord as AnswerRecord,
    )
    from crmkit.core.records import (
        Buyer as Buyer,
    )
    from crmkit.core.records import (
        ConsentRecord as ConsentRecord,
    )
    from crmkit.core.records import (
        CustomerRecord as CustomerRecord,
    )
    from crmkit.core.records import (
        InboundRecord as InboundRecord,
    )
    from crmkit.core.records import (
        LineRecord as LineRecord,
    )
    from crmkit.core.records import (
        OrderRecord as OrderRecord,
    )
    from crmkit.core.records import (
        OrderStatus as OrderStatus,
    )
    from crmkit.core.records import (
        ParcelRecord as ParcelRecord,
    )
    from crmkit.core.records import (
        PaymentRecord as PaymentRecord,
    )
    from crmkit.core.records import (
        PaymentState as PaymentState,
    )
    from crmkit.core.records import (
        ReceiptRecord as ReceiptRecord,
    )
    from crmkit.core.records import (
        Record as Record,
    )
    from crmkit.core.records import (
        RefundRecord as RefundRecord,
    )
    from crmkit.core.records import (
        ReturnRecord as ReturnRecord,
    )
    from crmkit.core.records import (
        ReviewRecord as ReviewRecord,
    )
    from crmkit.core.records import (
        SuppressionRecord as SuppressionRecord,
    )
    from crmkit.core.secret import (
        secrets_in as secrets_in,
    )
    from crmkit.core.survey import (
        Question as Question,
    )
    from crmkit.core.survey import (
        Survey as Survey,
    )
    from crmkit.core.trouble import (
        Trouble as Trouble,
    )
    from crmkit.web.extension import (
        PageCrm as PageCrm,
    )
