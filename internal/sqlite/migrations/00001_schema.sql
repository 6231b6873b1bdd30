-- +goose Up

-- Times are microseconds since 1970, UTC. Prices and amounts are minor units. Text is kept as it came: names are opaque.
-- There is no way down: a schema that lost data cannot give it back, a copy of the file can.

-- The catalog's version: raised in the transaction of every change that a gateway must learn of.
CREATE TABLE catalog (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  version INTEGER NOT NULL
) STRICT;
INSERT INTO catalog (one, version) VALUES (1, 1);

CREATE TABLE merchants (
  id             TEXT PRIMARY KEY NOT NULL,
  name           TEXT NOT NULL,
  payment_secret TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A caller is never deleted, so its name is never given out twice.
CREATE TABLE callers (
  merchant TEXT NOT NULL REFERENCES merchants (id),
  caller   TEXT NOT NULL,
  name     TEXT NOT NULL,
  rights   INTEGER NOT NULL,
  shadow   INTEGER NOT NULL CHECK (shadow IN (0, 1)),
  key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
  revoked  INTEGER NOT NULL CHECK (revoked IN (0, 1)),
  created  INTEGER NOT NULL,
  PRIMARY KEY (merchant, caller)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
  name    TEXT PRIMARY KEY NOT NULL,
  role    INTEGER NOT NULL,
  hash    BLOB NOT NULL CHECK (length(hash) = 32),
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE activities (
  id             TEXT PRIMARY KEY NOT NULL,
  merchant       TEXT NOT NULL REFERENCES merchants (id),
  name           TEXT NOT NULL,
  state          TEXT NOT NULL,
  starts_at      INTEGER NOT NULL,
  ends_at        INTEGER NOT NULL,
  payment_window INTEGER NOT NULL, -- nanoseconds
  ended_at       INTEGER           -- NULL unless it was ended by hand
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT, because order ids carry the item's id: the id of a deleted item must not come back.
-- The last CHECK is L1: whatever the code above it does, an item cannot be oversold.
CREATE TABLE items (
  id            INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),
  activity      TEXT NOT NULL REFERENCES activities (id),
  position      INTEGER NOT NULL,
  sku           TEXT NOT NULL,
  price         INTEGER NOT NULL,
  currency      TEXT NOT NULL,
  per_user      INTEGER NOT NULL,
  total         INTEGER NOT NULL,
  open          INTEGER NOT NULL DEFAULT 0,
  sold          INTEGER NOT NULL DEFAULT 0,
  epoch         INTEGER NOT NULL DEFAULT 0,
  next_epoch    INTEGER NOT NULL DEFAULT 0, -- the highest given out, never below epoch
  suspect_epoch INTEGER NOT NULL DEFAULT 0, -- suspect while it is the item's epoch: a fence ends the suspicion by itself
  skipped       INTEGER NOT NULL DEFAULT 0,
  rejected      INTEGER NOT NULL DEFAULT 0,
  UNIQUE (activity, sku),
  CHECK (open >= 0 AND sold >= 0 AND open + sold <= total)
) STRICT;

-- With a rowid, though looked up by id: ids are hashes, and rows in their order would touch a page per order. This way a
-- batch appends its rows to the table and scatters only small index entries: three times the orders per second. Ids begin
-- with their item, so a rebuild reads its item's orders as one range of the id's index. Nothing refers to items here: Accept
-- has read the item's row under the same write lock.
CREATE TABLE orders (
  id         TEXT PRIMARY KEY NOT NULL,
  item       INTEGER NOT NULL,
  merchant   TEXT NOT NULL,
  caller     TEXT NOT NULL,
  activity   TEXT NOT NULL,
  sku        TEXT NOT NULL,
  user       TEXT NOT NULL,
  quantity   INTEGER NOT NULL CHECK (quantity > 0),
  amount     INTEGER NOT NULL,
  currency   TEXT NOT NULL,
  state      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  units      TEXT NOT NULL CHECK (units IN ('open', 'sold', 'void')),
  created_at INTEGER NOT NULL,
  pay_by     INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  shard      INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  seq        INTEGER NOT NULL
) STRICT;

-- L5: the units a buyer has of an item, without touching the order.
CREATE INDEX orders_of_buyer ON orders (item, user, quantity) WHERE units <> 'void';
-- Time-outs, oldest first.
CREATE INDEX orders_to_time_out ON orders (pay_by) WHERE state = 'pending_payment';

CREATE TABLE payments (
  merchant   TEXT NOT NULL,
  payment    TEXT NOT NULL,
  order_id   TEXT NOT NULL,
  amount     INTEGER NOT NULL,
  currency   TEXT NOT NULL,
  refund_due INTEGER NOT NULL CHECK (refund_due IN (0, 1)),
  kept_at    INTEGER NOT NULL,
  PRIMARY KEY (merchant, payment)
) STRICT, WITHOUT ROWID;

-- What Redis has yet to be told. AUTOINCREMENT, because a relay deletes by id after it has delivered: a new row under an
-- id that was just deleted would be deleted by the relay that delivered the old one.
CREATE TABLE outbox (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  item     INTEGER NOT NULL,
  kind     TEXT NOT NULL CHECK (kind IN ('sold', 'void', 'restock')),
  stock    INTEGER NOT NULL CHECK (stock IN (0, 1)), -- 1: a restock or a withdrawal's hold, which a fence's snapshot counts
  name     TEXT NOT NULL,                            -- the hold's, or the restock's key
  buyer    TEXT NOT NULL,
  quantity INTEGER NOT NULL CHECK (quantity > 0)
) STRICT;
CREATE INDEX outbox_stock ON outbox (item) WHERE stock = 1;

-- Restocks (delta > 0) and withdrawals (delta < 0, with their hold) by idempotency key.
CREATE TABLE stock_changes (
  item   INTEGER NOT NULL,
  key    TEXT NOT NULL,
  delta  INTEGER NOT NULL CHECK (delta <> 0),
  hold   TEXT NOT NULL,
  at     INTEGER NOT NULL,
  PRIMARY KEY (item, key)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX stock_changes_of_hold ON stock_changes (item, hold) WHERE hold <> '';

-- Withdrawals' holds that were buried: the withdrawal must not commit any more. A table of its own, because a key is the
-- client's to choose and could be made to look like a hold.
CREATE TABLE withdrawal_tombstones (
  item     INTEGER NOT NULL,
  hold     TEXT NOT NULL,
  quantity INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (item, hold)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  "partition" INTEGER NOT NULL,
  "offset"    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  problem     TEXT NOT NULL,
  value       BLOB NOT NULL,
  UNIQUE ("partition", "offset")
) STRICT;

-- Who changed what, and why; append-only.
CREATE TABLE changes (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  reason   TEXT NOT NULL,
  kind     TEXT NOT NULL,
  key      TEXT NOT NULL,
  "before" TEXT NOT NULL,
  "after"  TEXT NOT NULL
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER changes_are_not_rewritten BEFORE UPDATE ON changes BEGIN
  SELECT RAISE(ABORT, 'changes are append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER changes_are_not_deleted BEFORE DELETE ON changes BEGIN
  SELECT RAISE(ABORT, 'changes are append-only');
END;
-- +goose StatementEnd
