"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WAITING = "state = 'queued' AND (reason IS NULL OR reason NOT IN ('paused', 'opt-outs-unknown'))"
KEPT = "state = 'queued' AND reason IN ('paused', 'opt-outs-unknown')"
ACCEPTED = "outcome = 'accepted'"
REFUSED = "outcome IN ('rejected', 'refused', 'in-doubt')"
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Create every table of the core."""
    op.create_table(
        "account",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("vendor_account", sa.String(), nullable=True),
        sa.Column("announce_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opt_outs_known_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opt_outs_told", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("adapter", "vendor_account"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "address",
        sa.Column("profile_id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("purposes", sa.String(), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("profile_id", "kind", "value", "scope"),
    )
    op.create_index("address_value", "address", ["value"], unique=False)
    op.create_table(
        "attempt",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("message_id", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("vendor_id", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("redirected_to", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attempt_message", "attempt", ["message_id"], unique=False)
    op.create_index(
        "attempt_accepted",
        "attempt",
        ["gateway", "finished_at"],
        unique=False,
        sqlite_where=sa.text(ACCEPTED),
        postgresql_where=sa.text(ACCEPTED),
    )
    op.create_index(
        "attempt_refused",
        "attempt",
        ["gateway", "finished_at"],
        unique=False,
        sqlite_where=sa.text(REFUSED),
        postgresql_where=sa.text(REFUSED),
    )
    op.create_table(
        "inbox",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("headers", JSON, nullable=True),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.Column("refs", JSON, nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "dedupe_key"),
    )
    op.create_index(
        "inbox_waiting",
        "inbox",
        ["account_id", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "inbox_settled",
        "inbox",
        ["settled_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('done', 'failed')"),
        postgresql_where=sa.text("state IN ('done', 'failed')"),
    )
    op.create_index("inbox_received", "inbox", ["account_id", "received_at"], unique=False)
    op.create_table(
        "stranger",
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day"),
    )
    op.create_table(
        "token",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "contact",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("profile_id", NUMBER, nullable=False),
        sa.Column("order_id", NUMBER, nullable=True),
        sa.Column("interaction_id", NUMBER, nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("choices", JSON, nullable=True),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("proven_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "contact_kept",
        "contact",
        ["left_at"],
        unique=False,
        sqlite_where=sa.text("value != ''"),
        postgresql_where=sa.text("value != ''"),
    )
    op.create_index("contact_profile", "contact", ["profile_id"], unique=False)
    op.create_index("contact_value", "contact", ["value"], unique=False)
    op.create_table(
        "hint",
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "kind", "external_id"),
    )
    op.create_table(
        "memory",
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "name"),
    )
    op.create_table(
        "broadcast",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("via", JSON, nullable=False),
        sa.Column("context", JSON, nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_out", NUMBER, nullable=False),
        sa.Column("interaction_id", NUMBER, nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "broadcast_member",
        sa.Column("broadcast_id", NUMBER, nullable=False),
        sa.Column("profile_id", NUMBER, nullable=False),
        sa.Column("interaction_id", NUMBER, nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("message_id", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("broadcast_id", "profile_id"),
        sa.UniqueConstraint("broadcast_id", "address"),
    )
    op.create_table(
        "consent",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("wording", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("is_complaint", sa.Boolean(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "consent_complaint",
        "consent",
        ["source", "recorded_at"],
        unique=False,
        sqlite_where=sa.text("is_complaint"),
        postgresql_where=sa.text("is_complaint"),
    )
    op.create_index("consent_address", "consent", ["address"], unique=False)
    op.create_index("consent_profile", "consent", ["profile_id"], unique=False)
    op.create_table(
        "cursor",
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "stream"),
    )
    op.create_table(
        "forgotten",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "goods_return",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("order_external_id", sa.String(), nullable=False),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.Column("vendor_status", sa.String(), nullable=True),
        sa.Column("tracking_number", sa.String(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "external_id"),
    )
    op.create_index("goods_return_order", "goods_return", ["shop_id", "order_external_id"], unique=False)
    op.create_index(
        "goods_return_waiting",
        "goods_return",
        ["shop_id", "order_external_id"],
        unique=False,
        sqlite_where=sa.text("is_waiting"),
        postgresql_where=sa.text("is_waiting"),
    )
    op.create_table(
        "identity",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=False),
        sa.Column("is_strong", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "scope", "value", "profile_id"),
    )
    op.create_index(op.f("ix_identity_profile_id"), "identity", ["profile_id"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("inode", sa.String(), nullable=True),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("adopted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("doubtful_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("behind", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "interaction",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("shop_id", NUMBER, nullable=True),
        sa.Column("order_id", NUMBER, nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", JSON, nullable=True),
        sa.Column("cause_id", NUMBER, nullable=True),
        sa.Column("depth", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.Column("is_quiet", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "interaction_key",
        "interaction",
        ["key"],
        unique=True,
        sqlite_where=sa.text("key IS NOT NULL"),
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_index(
        "interaction_order",
        "interaction",
        ["order_id"],
        unique=False,
        sqlite_where=sa.text("order_id IS NOT NULL"),
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_index("interaction_profile", "interaction", ["profile_id", "occurred_at"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("once", sa.String(), nullable=True),
        sa.Column("interaction_id", NUMBER, nullable=True),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.Column("depth", NUMBER, nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("staff", sa.String(), nullable=True),
        sa.Column("shop_id", NUMBER, nullable=True),
        sa.Column("order_id", NUMBER, nullable=True),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("template_hash", sa.String(), nullable=True),
        sa.Column("locale", sa.String(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("milestone", sa.String(), nullable=True),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("gateways", JSON, nullable=False),
        sa.Column("address_kind", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("params", JSON, nullable=True),
        sa.Column("asked", JSON, nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("html", sa.String(), nullable=True),
        sa.Column("headers", JSON, nullable=True),
        sa.Column("encoding", sa.String(), nullable=True),
        sa.Column("segments", NUMBER, nullable=True),
        sa.Column("content_hash", sa.String(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("claim_id", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reserved", sa.String(), nullable=True),
        sa.Column("gateway", sa.String(), nullable=True),
        sa.Column("vendor_id", sa.String(), nullable=True),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("look_ups", NUMBER, nullable=False),
        sa.Column("doubted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cost", sa.String(), nullable=True),
        sa.Column("cost_currency", sa.String(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "message_once",
        "message",
        ["once"],
        unique=False,
        sqlite_where=sa.text("once IS NOT NULL"),
        postgresql_where=sa.text("once IS NOT NULL"),
    )
    op.create_index(
        "message_marketing",
        "message",
        ["address"],
        unique=False,
        sqlite_where=sa.text("purpose = 'marketing'"),
        postgresql_where=sa.text("purpose = 'marketing'"),
    )
    op.create_index(
        "message_claim",
        "message",
        ["claim_id"],
        unique=False,
        sqlite_where=sa.text("claim_id IS NOT NULL"),
        postgresql_where=sa.text("claim_id IS NOT NULL"),
    )
    op.create_index(
        "message_due",
        "message",
        ["gateway", "not_before", "id"],
        unique=False,
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )
    op.create_index(
        "message_kept",
        "message",
        ["id"],
        unique=False,
        sqlite_where=sa.text(KEPT),
        postgresql_where=sa.text(KEPT),
    )
    op.create_index(
        "message_doubt",
        "message",
        ["gateway", "not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'in-doubt'"),
        postgresql_where=sa.text("state = 'in-doubt'"),
    )
    op.create_index(
        "message_batch",
        "message",
        ["batch_id"],
        unique=False,
        sqlite_where=sa.text("batch_id IS NOT NULL"),
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "message_fenced",
        "message",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND reason = 'fenced'"),
        postgresql_where=sa.text("state = 'queued' AND reason = 'fenced'"),
    )
    op.create_index("message_profile", "message", ["profile_id"], unique=False)
    op.create_index(
        "message_amiss",
        "message",
        ["state", "decided_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('held', 'bounced', 'failed')"),
        postgresql_where=sa.text("state IN ('held', 'bounced', 'failed')"),
    )
    op.create_index(
        "message_staff",
        "message",
        ["interaction_id"],
        unique=False,
        sqlite_where=sa.text("profile_id IS NULL"),
        postgresql_where=sa.text("profile_id IS NULL"),
    )
    op.create_index(
        "message_sending",
        "message",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index(
        "message_vendor",
        "message",
        ["gateway", "vendor_id"],
        unique=False,
        sqlite_where=sa.text("vendor_id IS NOT NULL"),
        postgresql_where=sa.text("vendor_id IS NOT NULL"),
    )
    op.create_table(
        "order_line",
        sa.Column("order_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("sku", sa.String(), nullable=True),
        sa.Column("product_id", sa.String(), nullable=True),
        sa.Column("variant_id", sa.String(), nullable=True),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("quantity", sa.String(), nullable=False),
        sa.Column("unit_price", sa.String(), nullable=True),
        sa.Column("discount_minor", NUMBER, nullable=True),
        sa.Column("tax_minor", NUMBER, nullable=True),
        sa.Column("shipping_minor", NUMBER, nullable=True),
        sa.Column("total_minor", NUMBER, nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("order_id", "external_id"),
    )
    op.create_table(
        "orders",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("number", sa.String(), nullable=True),
        sa.Column("parent_external_id", sa.String(), nullable=True),
        sa.Column("order_kind", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("vendor_status", sa.String(), nullable=True),
        sa.Column("payment_state", sa.String(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("shipped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("promised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parcel_total", NUMBER, nullable=True),
        sa.Column("currency", sa.String(), nullable=True),
        sa.Column("basis", sa.String(), nullable=False),
        sa.Column("items_minor", NUMBER, nullable=True),
        sa.Column("discount_minor", NUMBER, nullable=True),
        sa.Column("shipping_minor", NUMBER, nullable=True),
        sa.Column("tax_minor", NUMBER, nullable=True),
        sa.Column("fee_minor", NUMBER, nullable=True),
        sa.Column("total_minor", NUMBER, nullable=True),
        sa.Column("paid_minor", NUMBER, nullable=True),
        sa.Column("lines_hash", sa.String(), nullable=True),
        sa.Column("ship_to", JSON, nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("tags", JSON, nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "external_id"),
    )
    op.create_index(
        "orders_open",
        "orders",
        ["shop_id", "id"],
        unique=False,
        sqlite_where=sa.text("delivered_at IS NULL AND completed_at IS NULL AND cancelled_at IS NULL"),
        postgresql_where=sa.text("delivered_at IS NULL AND completed_at IS NULL AND cancelled_at IS NULL"),
    )
    op.create_index("orders_profile", "orders", ["profile_id"], unique=False)
    op.create_index("orders_placed", "orders", ["shop_id", "placed_at"], unique=False)
    op.create_table(
        "parcel",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("order_external_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.Column("carrier", sa.String(), nullable=True),
        sa.Column("tracking_number", sa.String(), nullable=True),
        sa.Column("tracking_url", sa.String(), nullable=True),
        sa.Column("vendor_status", sa.String(), nullable=True),
        sa.Column("shipped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "order_external_id", "key"),
    )
    op.create_index(
        "parcel_waiting",
        "parcel",
        ["shop_id", "order_external_id"],
        unique=False,
        sqlite_where=sa.text("is_waiting"),
        postgresql_where=sa.text("is_waiting"),
    )
    op.create_table(
        "payment",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("order_external_id", sa.String(), nullable=False),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.Column("method", sa.String(), nullable=True),
        sa.Column("vendor_status", sa.String(), nullable=True),
        sa.Column("currency", sa.String(), nullable=True),
        sa.Column("amount_minor", NUMBER, nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "external_id"),
    )
    op.create_index("payment_order", "payment", ["shop_id", "order_external_id"], unique=False)
    op.create_index(
        "payment_waiting",
        "payment",
        ["shop_id", "order_external_id"],
        unique=False,
        sqlite_where=sa.text("is_waiting"),
        postgresql_where=sa.text("is_waiting"),
    )
    op.create_table(
        "plan_file",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path", "host"),
    )
    op.create_table(
        "pause",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "name"),
    )
    op.create_table(
        "pending",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("interaction_id", NUMBER, nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("plugin", sa.String(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "pending_due",
        "pending",
        ["due_at", "interaction_id"],
        unique=False,
        sqlite_where=sa.text("parked_at IS NULL"),
        postgresql_where=sa.text("parked_at IS NULL"),
    )
    op.create_index("pending_profile", "pending", ["profile_id"], unique=False)
    op.create_table(
        "profile",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("family_id", NUMBER, nullable=False),
        sa.Column("merged_into", NUMBER, nullable=True),
        sa.Column("needs_review", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.String(), nullable=True),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("locale", sa.String(), nullable=True),
        sa.Column("timezone", sa.String(), nullable=True),
        sa.Column("city", sa.String(), nullable=True),
        sa.Column("country", sa.String(), nullable=True),
        sa.Column("birthday", sa.Date(), nullable=True),
        sa.Column("sources", JSON, nullable=True),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("cycle", NUMBER, nullable=False),
        sa.Column("stage_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("profile_family", "profile", ["family_id"], unique=False)
    op.create_index(
        "profile_forgotten",
        "profile",
        ["id"],
        unique=False,
        sqlite_where=sa.text("forgotten_at IS NOT NULL"),
        postgresql_where=sa.text("forgotten_at IS NOT NULL"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=True),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("raw", sa.String(), nullable=True),
        sa.Column("inbox_id", NUMBER, nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index(
        "quarantine_open",
        "quarantine",
        ["account_id", "ref"],
        unique=False,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "quiet",
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "plugin", "template"),
    )
    op.create_table(
        "quota",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tokens", sa.String(), nullable=True),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("day", sa.String(), nullable=True),
        sa.Column("day_count", NUMBER, nullable=False),
        sa.Column("period", sa.String(), nullable=True),
        sa.Column("spent", sa.String(), nullable=True),
        sa.Column("unit_cost", sa.String(), nullable=True),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures_in_a_row", NUMBER, nullable=False),
        sa.Column("opened", NUMBER, nullable=False),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probing_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probing_by", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("down_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_by", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watched_from", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "receipt",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("message_id", NUMBER, nullable=True),
        sa.Column("message_key", sa.String(), nullable=True),
        sa.Column("vendor_id", sa.String(), nullable=True),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("recipient", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "external_id"),
    )
    op.create_index("receipt_message", "receipt", ["message_id"], unique=False)
    op.create_index("receipt_received", "receipt", ["account", "received_at"], unique=False)
    op.create_index(
        "receipt_bounced",
        "receipt",
        ["account", "received_at"],
        unique=False,
        sqlite_where=sa.text("state = 'bounced'"),
        postgresql_where=sa.text("state = 'bounced'"),
    )
    op.create_table(
        "intervention",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("message_id", NUMBER, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("was", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("intervention_message", "intervention", ["message_id"], unique=False)
    op.create_index(
        "receipt_orphan",
        "receipt",
        ["vendor_id"],
        unique=False,
        sqlite_where=sa.text("message_id IS NULL"),
        postgresql_where=sa.text("message_id IS NULL"),
    )
    op.create_table(
        "refund",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("order_external_id", sa.String(), nullable=False),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.Column("vendor_status", sa.String(), nullable=True),
        sa.Column("currency", sa.String(), nullable=True),
        sa.Column("requested_minor", NUMBER, nullable=True),
        sa.Column("refunded_minor", NUMBER, nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refunded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "external_id"),
    )
    op.create_index("refund_order", "refund", ["shop_id", "order_external_id"], unique=False)
    op.create_index(
        "refund_waiting",
        "refund",
        ["shop_id", "order_external_id"],
        unique=False,
        sqlite_where=sa.text("is_waiting"),
        postgresql_where=sa.text("is_waiting"),
    )
    op.create_table(
        "review",
        sa.Column("version_updated", sa.String(), nullable=False),
        sa.Column("version_observed", sa.String(), nullable=False),
        sa.Column("version_hash", sa.String(), nullable=False),
        sa.Column("said", NUMBER, nullable=False),
        sa.Column("older", JSON, nullable=True),
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("shop_id", NUMBER, nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("order_external_id", sa.String(), nullable=True),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=True),
        sa.Column("rating", sa.String(), nullable=True),
        sa.Column("vendor_rating", sa.String(), nullable=True),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("extras", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("shop_id", "external_id"),
    )
    op.create_index("review_order", "review", ["shop_id", "order_external_id"], unique=False)
    op.create_index(
        "review_waiting",
        "review",
        ["shop_id", "order_external_id"],
        unique=False,
        sqlite_where=sa.text("is_waiting"),
        postgresql_where=sa.text("is_waiting"),
    )
    op.create_table(
        "rhythm",
        sa.Column("account_id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("rhythm", JSON, nullable=True),
        sa.Column("learnt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("watched_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("silent_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "kind"),
    )
    op.create_table(
        "run",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("counts", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "secret",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "suppression",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "suppression_open",
        "suppression",
        ["address"],
        unique=False,
        sqlite_where=sa.text("lifted_at IS NULL"),
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "template",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "timer",
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("profile_id", NUMBER, nullable=True),
        sa.Column("shop_id", NUMBER, nullable=True),
        sa.Column("order_id", NUMBER, nullable=True),
        sa.Column("payload", JSON, nullable=True),
        sa.Column("cause_id", NUMBER, nullable=True),
        sa.Column("depth", NUMBER, nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("plugin", "key"),
    )
    op.create_index("timer_due", "timer", ["due_at"], unique=False)
