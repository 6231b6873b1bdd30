-- +goose Up

-- Times are microseconds since 1970, UTC. Prices and amounts are minor units. Text is stored as it
-- came: names are opaque. There are no down migrations: to go back, restore a copy of the file.

-- The data of the whole installation. shards is fixed when the database is made. lineage identifies
-- this database, and incarnation changes each time it is opened.
CREATE TABLE installation (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  shards      INTEGER NOT NULL CHECK (shards > 0),
  lineage     TEXT NOT NULL,
  incarnation TEXT NOT NULL
) STRICT;

-- next_epoch is the last epoch that was given out. A shard is suspect while suspect_epoch is its
-- epoch, so a fence ends the suspicion. loaded_epoch is the last epoch whose snapshot was taken:
-- until it equals the shard's epoch, its stock changes are not relayed, because the snapshot in
-- progress counts them.
CREATE TABLE shards (
  id            INTEGER PRIMARY KEY,
  epoch         INTEGER NOT NULL DEFAULT 0,
  next_epoch    INTEGER NOT NULL DEFAULT 0,
  suspect_epoch INTEGER NOT NULL DEFAULT -1,
  loaded_epoch  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Sums of the names of orders whose units are open or parked, and of those whose units are sold,
-- modulo inventory.DigestModulus.
CREATE TABLE shard_digests (
  shard INTEGER PRIMARY KEY REFERENCES shards (id),
  open  INTEGER NOT NULL DEFAULT 0,
  sold  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- How far the workers have read each partition that the books know.
CREATE TABLE positions (
  "partition"  INTEGER PRIMARY KEY,
  topic        BLOB NOT NULL CHECK (length(topic) = 16),
  next         INTEGER NOT NULL,
  leader_epoch INTEGER NOT NULL
) STRICT;

-- The catalog's version: raised in the transaction of every change that a gateway must learn of.
-- What changed has the version of its change.
CREATE TABLE catalog (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  version INTEGER NOT NULL
) STRICT;
INSERT INTO catalog (one, version) VALUES (1, 1);

CREATE TABLE merchants (
  id             TEXT PRIMARY KEY NOT NULL,
  name           TEXT NOT NULL,
  payment_secret TEXT NOT NULL,    -- sealed, like the one before
  former_secret  TEXT NOT NULL,
  former_until   INTEGER,          -- NULL if there is none
  changed        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX merchants_changed ON merchants (changed);

-- A caller is never deleted, so its name is never given out twice.
CREATE TABLE callers (
  merchant TEXT NOT NULL REFERENCES merchants (id),
  caller   TEXT NOT NULL,
  name     TEXT NOT NULL,
  rights   INTEGER NOT NULL,
  shadow   INTEGER NOT NULL CHECK (shadow IN (0, 1)),
  revoked  INTEGER NOT NULL CHECK (revoked IN (0, 1)),
  created  INTEGER NOT NULL,
  changed  INTEGER NOT NULL,
  PRIMARY KEY (merchant, caller)
) STRICT, WITHOUT ROWID;
CREATE INDEX callers_changed ON callers (changed);

-- The keys of callers, including dead ones. used is the minute of a key's last use; a new value is
-- no change of the catalog.
CREATE TABLE caller_keys (
  merchant TEXT NOT NULL,
  caller   TEXT NOT NULL,
  id       TEXT NOT NULL,
  position INTEGER NOT NULL,
  prefix   TEXT NOT NULL,
  hash     BLOB NOT NULL CHECK (length(hash) = 32),
  created  INTEGER NOT NULL,
  expires  INTEGER,             -- NULL: never
  revoked  INTEGER NOT NULL CHECK (revoked IN (0, 1)),
  used     INTEGER,
  PRIMARY KEY (merchant, caller, id),
  FOREIGN KEY (merchant, caller) REFERENCES callers (merchant, caller)
) STRICT, WITHOUT ROWID;

-- merchant is '' for a token that is not bound to a merchant. A session belongs to a person who has
-- logged in.
CREATE TABLE tokens (
  id       TEXT PRIMARY KEY NOT NULL,
  name     TEXT NOT NULL,
  role     INTEGER NOT NULL,
  merchant TEXT NOT NULL,
  session  INTEGER NOT NULL CHECK (session IN (0, 1)),
  hash     BLOB NOT NULL CHECK (length(hash) = 32),
  created  INTEGER NOT NULL,
  expires  INTEGER, -- NULL: never
  used     INTEGER
) STRICT, WITHOUT ROWID;

-- published says that the activity was on sale once: its items have units in Redis from then on.
CREATE TABLE activities (
  id             TEXT PRIMARY KEY NOT NULL,
  merchant       TEXT NOT NULL REFERENCES merchants (id),
  name           TEXT NOT NULL,
  state          TEXT NOT NULL,
  starts_at      INTEGER NOT NULL,
  ends_at        INTEGER NOT NULL,
  payment_window INTEGER NOT NULL, -- nanoseconds
  ended_at       INTEGER,          -- NULL unless it was ended by hand
  archived_at    INTEGER,          -- NULL unless there is an archive of its orders
  archive_sum    TEXT NOT NULL,
  published      INTEGER NOT NULL CHECK (published IN (0, 1)),
  changed        INTEGER NOT NULL, -- the catalog's version of its last change
  items_changed  INTEGER NOT NULL  -- and of the last change of its items
) STRICT, WITHOUT ROWID;
CREATE INDEX activities_changed ON activities (changed);
CREATE INDEX activities_closed ON activities (min(ends_at, ifnull(ended_at, ends_at)));

-- Dropped activities, for readers of the catalog from before. Versions of an earlier incarnation
-- mean nothing, so Open empties the table.
CREATE TABLE dropped_activities (
  id      TEXT PRIMARY KEY NOT NULL,
  changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dropped_activities_changed ON dropped_activities (changed);

-- Items of dropped activities whose orders must still be deleted.
CREATE TABLE dropped_items (
  id INTEGER PRIMARY KEY
) STRICT;

-- AUTOINCREMENT, because order ids contain the item's id: the id of a deleted item must not be used
-- again.
CREATE TABLE items (
  id         INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967294),
  activity   TEXT NOT NULL REFERENCES activities (id),
  position   INTEGER NOT NULL,
  sku        TEXT NOT NULL,
  price      INTEGER NOT NULL,
  currency   TEXT NOT NULL,
  per_user   INTEGER NOT NULL,
  max_orders INTEGER NOT NULL,
  spread     INTEGER NOT NULL CHECK (spread > 0),
  UNIQUE (activity, sku)
) STRICT;
CREATE INDEX items_in_order ON items (activity, position);

-- The units of an item on a shard. The CHECK is L1: whatever the code above it does, an item cannot
-- be oversold. Parked units are not in the CHECK and not a column: they are the sum over the parked
-- orders. It must be possible to park a promise whose row is locked, or missing, or sold out
-- because a shard forgot its data.
CREATE TABLE stock (
  item     INTEGER NOT NULL REFERENCES items (id),
  shard    INTEGER NOT NULL REFERENCES shards (id),
  total    INTEGER NOT NULL,
  open     INTEGER NOT NULL DEFAULT 0,
  sold     INTEGER NOT NULL DEFAULT 0,
  skipped  INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (item, shard),
  CHECK (open >= 0 AND sold >= 0 AND open + sold <= total)
) STRICT, WITHOUT ROWID;
CREATE INDEX stock_of_shard ON stock (shard, item);

-- The table has a rowid, although orders are looked up by id: ids are hashes, so rows in their
-- order would touch a page per order. With a rowid, a batch appends its rows to the table, and only
-- small index entries are scattered: that makes three times as many orders per second. Ids begin
-- with their item, so a snapshot reads an item's orders as one range of the id's index. Nothing
-- refers to items here: Accept has read them under the same write lock.
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
  units      TEXT NOT NULL CHECK (units IN ('open', 'sold', 'void', 'parked')),
  created_at INTEGER NOT NULL,
  pay_by     INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at   INTEGER NOT NULL, -- when the units became sold or void, 0 before
  shard      INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  seq        INTEGER NOT NULL, -- 0 if no record of the queue has the promise
  "partition" INTEGER NOT NULL,
  "offset"   INTEGER NOT NULL,
  request    TEXT NOT NULL,
  node       TEXT NOT NULL,
  accepted   INTEGER NOT NULL
) STRICT;

-- L5: the units a buyer has of an item, without touching the order.
CREATE INDEX orders_of_buyer ON orders (item, user, quantity) WHERE units IN ('open', 'sold');
-- Time-outs, oldest first.
CREATE INDEX orders_to_time_out ON orders (pay_by, shard) WHERE state = 'pending_payment';
-- Parked units of a stock row, and parked orders to try again: those tried longest ago first.
CREATE INDEX orders_parked ON orders (shard, item, quantity) WHERE units = 'parked';
CREATE INDEX orders_to_unpark ON orders (updated_at, shard) WHERE state = 'parked' AND reason = 'locked';

-- For searches by operators, newest first. Each index begins with the value that is searched.
CREATE INDEX orders_by_user ON orders (user, created_at, id);
CREATE INDEX orders_by_request ON orders (request);
CREATE INDEX orders_by_caller ON orders (caller, created_at, id);
CREATE INDEX orders_by_activity ON orders (activity, created_at, id);
CREATE INDEX orders_by_state ON orders (state, created_at, id);

-- Every payment that a provider has reported, and the state of the money. early: its order has no
-- row yet. due: it must be refunded, because of its cause. done: it was refunded.
CREATE TABLE payments (
  merchant  TEXT NOT NULL,
  payment   TEXT NOT NULL,
  order_id  TEXT NOT NULL,
  activity  TEXT NOT NULL,
  sku       TEXT NOT NULL,
  amount    INTEGER NOT NULL,
  currency  TEXT NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('booked', 'early', 'due', 'done')),
  cause     TEXT NOT NULL,
  kept_at   INTEGER NOT NULL,
  done_at   INTEGER NOT NULL, -- 0 before it is done
  done_by   TEXT NOT NULL,
  reference TEXT NOT NULL,
  PRIMARY KEY (merchant, payment)
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_by_id ON payments (payment);
CREATE INDEX payments_of_order ON payments (order_id);
CREATE INDEX payments_early ON payments (kept_at) WHERE state = 'early';
CREATE INDEX refunds_by_time ON payments (state, kept_at, merchant, payment) WHERE state IN ('due', 'done');
CREATE INDEX refunds_of_merchant ON payments (merchant, state, kept_at, payment) WHERE state IN ('due', 'done');

-- Signed notices that were refused, for people to read. Equal notices of an order are counted.
CREATE TABLE refused_payments (
  order_id TEXT NOT NULL,
  merchant TEXT NOT NULL,
  payment  TEXT NOT NULL,
  amount   INTEGER NOT NULL,
  currency TEXT NOT NULL,
  problem  TEXT NOT NULL,
  count    INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (order_id, merchant, payment, amount, currency, problem)
) STRICT, WITHOUT ROWID;

-- What Redis must still be told. AUTOINCREMENT, because a relay deletes by id after it has
-- delivered: a new row under an id that was just deleted would be deleted by the relay that
-- delivered the old one.
CREATE TABLE outbox (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  shard    INTEGER NOT NULL,
  item     INTEGER NOT NULL,
  kind     TEXT NOT NULL CHECK (kind IN ('sold', 'void', 'restock', 'publish')),
  stock    INTEGER NOT NULL CHECK (stock IN (0, 1)), -- 1: a stock change, which a snapshot counts
  name     TEXT NOT NULL,                            -- the name of the hold, or the id of the restock
  buyer    TEXT NOT NULL,
  quantity INTEGER NOT NULL CHECK (quantity >= 0)
) STRICT;
CREATE INDEX outbox_of_item ON outbox (shard, item);
CREATE INDEX outbox_stock ON outbox (shard, id) WHERE stock = 1;
CREATE INDEX outbox_publish ON outbox (item) WHERE kind = 'publish';

-- Restocks (delta > 0) and withdrawals (delta < 0) by idempotency key.
CREATE TABLE stock_changes (
  item  INTEGER NOT NULL,
  key   TEXT NOT NULL,
  delta INTEGER NOT NULL CHECK (delta <> 0),
  at    INTEGER NOT NULL,
  PRIMARY KEY (item, key)
) STRICT, WITHOUT ROWID;

-- The holds by which the shop took units of an item from a shard, and those that were buried: their
-- withdrawal must not commit after that. The primary key decides which of the two came first.
CREATE TABLE withdrawals (
  hold     TEXT PRIMARY KEY NOT NULL,
  item     INTEGER NOT NULL,
  shard    INTEGER NOT NULL,
  quantity INTEGER NOT NULL,
  buried   INTEGER NOT NULL CHECK (buried IN (0, 1)),
  at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX withdrawals_of_stock ON withdrawals (shard, item);

-- Records that no worker can use (order_id is ''), and parked orders that fit no item. A replaced
-- topic has the same partitions and offsets, so the value's digest distinguishes the records.
CREATE TABLE dead_letters (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id    TEXT NOT NULL,
  "partition" INTEGER NOT NULL,
  "offset"    INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  problem     TEXT NOT NULL,
  value       BLOB NOT NULL,
  digest      BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_letters_of_record ON dead_letters ("partition", "offset", digest) WHERE order_id = '';
CREATE UNIQUE INDEX dead_letters_of_order ON dead_letters (order_id) WHERE order_id <> '';

-- Steps of orders and of their money that other systems must still be told. A row has many steps of
-- a transaction, encoded with the data of their orders. AUTOINCREMENT, because a relay deletes by
-- id after it has delivered.
CREATE TABLE order_events (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  at    INTEGER NOT NULL, -- of the first step
  count INTEGER NOT NULL CHECK (count > 0),
  steps BLOB NOT NULL     -- see seckill.AppendSteps
) STRICT;

-- Each change: its author, what was changed, and why; append-only.
CREATE TABLE changes (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  token    TEXT NOT NULL,
  address  TEXT NOT NULL,
  reason   TEXT NOT NULL,
  kind     TEXT NOT NULL,
  key      TEXT NOT NULL,
  "before" TEXT NOT NULL,
  "after"  TEXT NOT NULL
) STRICT;

-- What operators did to an order, and to all orders of an activity.
CREATE INDEX changes_of_orders ON changes (key) WHERE kind IN ('order', 'extension');

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

-- Every version of every settings document; append-only. Its author and the reason are in changes.
CREATE TABLE settings (
  name    TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version > 0),
  id      TEXT NOT NULL,
  at      INTEGER NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (name, version)
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER settings_are_not_rewritten BEFORE UPDATE ON settings BEGIN
  SELECT RAISE(ABORT, 'settings are append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER settings_are_not_deleted BEFORE DELETE ON settings BEGIN
  SELECT RAISE(ABORT, 'settings are append-only');
END;
-- +goose StatementEnd
