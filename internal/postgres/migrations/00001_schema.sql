-- +goose Up

-- Times are timestamptz, with microseconds. Prices and amounts are minor units. Names are opaque
-- and compared byte by byte, so their collation is C. There are no down migrations: to go back,
-- restore a backup.

-- The data of the whole installation. shards is fixed when the database is made; penstock.shards is
-- a setting of the session that migrates. lineage identifies this database.
CREATE TABLE installation (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  shards  integer NOT NULL CHECK (shards BETWEEN 1 AND 1024),
  lineage text NOT NULL
);
INSERT INTO installation (shards, lineage)
  VALUES (coalesce(nullif(current_setting('penstock.shards', true), ''), '16')::integer,
    replace(gen_random_uuid()::text, '-', ''));

-- next_epoch is the last epoch that was given out. A shard is suspect while suspect_epoch is its
-- epoch, so a fence ends the suspicion. Transactions that decide under the shard's epoch lock the
-- row FOR SHARE.
CREATE TABLE shards (
  id            integer PRIMARY KEY,
  epoch         bigint NOT NULL DEFAULT 0,
  next_epoch    bigint NOT NULL DEFAULT 0,
  suspect_epoch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO shards (id) SELECT generate_series(0, shards - 1) FROM installation;

-- The last epoch whose snapshot was taken. Until it equals the shard's epoch, the stock changes in
-- the outbox are not relayed, because the snapshot in progress counts them. This is a separate
-- table, because a snapshot takes long and must not lock the shard's row meanwhile.
CREATE TABLE shard_loads (
  shard integer PRIMARY KEY REFERENCES shards (id),
  epoch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO shard_loads (shard) SELECT id FROM shards;

-- Sums of the names of orders whose units are open or parked, and of those whose units are sold,
-- modulo 2^48 (inventory.DigestModulus). A shard's sum is that of its slots; transactions that
-- write at the same time mostly use different ones.
CREATE TABLE shard_digests (
  shard integer NOT NULL REFERENCES shards (id),
  slot  integer NOT NULL,
  open  bigint NOT NULL DEFAULT 0,
  sold  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (shard, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO shard_digests (shard, slot) SELECT id, generate_series(0, 15) FROM shards;

-- How far the workers have read each partition that the books know.
CREATE TABLE positions (
  "partition"  integer PRIMARY KEY,
  topic        uuid NOT NULL,
  next         bigint NOT NULL,
  leader_epoch integer NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The Kafka cluster that has this installation's promises, by the id that Kafka gave it. The first
-- worker that reaches one writes it. A process that finds another cluster stops: it would read no
-- promise of this installation, and its sweeper would bury them all. An empty id is one that the
-- owner has let go: the next worker writes its own. adopt says that the topic is then taken as it
-- is, until a worker has registered it.
CREATE TABLE kafka_cluster (
  one   boolean PRIMARY KEY DEFAULT true CHECK (one),
  id    text NOT NULL COLLATE "C",
  adopt boolean NOT NULL DEFAULT false
);

-- The catalog's version: raised in the transaction of every change that a gateway must learn of.
-- What changed has the version of its change. The row is the lock of those changes. Activities that
-- were dropped at a version up to horizon are forgotten.
CREATE TABLE catalog (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  version bigint NOT NULL,
  horizon bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO catalog (version) VALUES (1);

CREATE TABLE merchants (
  id             text COLLATE "C" PRIMARY KEY,
  name           text NOT NULL,
  payment_secret text NOT NULL, -- sealed, like the one before
  former_secret  text NOT NULL,
  former_until   timestamptz,   -- NULL if there is none
  changed        bigint NOT NULL
);
CREATE INDEX merchants_changed ON merchants (changed);

-- A caller is never deleted, so its name is never given out twice.
CREATE TABLE callers (
  merchant text COLLATE "C" NOT NULL REFERENCES merchants (id),
  caller   text COLLATE "C" NOT NULL,
  name     text NOT NULL,
  rights   smallint NOT NULL,
  shadow   boolean NOT NULL,
  revoked  boolean NOT NULL,
  created  timestamptz NOT NULL,
  changed  bigint NOT NULL,
  PRIMARY KEY (merchant, caller)
);
CREATE INDEX callers_changed ON callers (changed);

-- The keys of callers, including dead ones. used is the minute of a key's last use; a new value is
-- no change of the catalog.
CREATE TABLE caller_keys (
  merchant text COLLATE "C" NOT NULL,
  caller   text COLLATE "C" NOT NULL,
  id       text COLLATE "C" NOT NULL,
  position integer NOT NULL,
  prefix   text NOT NULL,
  hash     bytea NOT NULL CHECK (length(hash) = 32),
  created  timestamptz NOT NULL,
  expires  timestamptz, -- NULL: never
  revoked  boolean NOT NULL,
  used     timestamptz,
  PRIMARY KEY (merchant, caller, id),
  FOREIGN KEY (merchant, caller) REFERENCES callers (merchant, caller)
);

-- merchant is '' for a token that is not bound to a merchant. A session belongs to a person who has
-- logged in.
CREATE TABLE tokens (
  id       text COLLATE "C" PRIMARY KEY,
  name     text COLLATE "C" NOT NULL,
  role     smallint NOT NULL,
  merchant text COLLATE "C" NOT NULL,
  session  boolean NOT NULL,
  hash     bytea NOT NULL CHECK (length(hash) = 32),
  created  timestamptz NOT NULL,
  expires  timestamptz, -- NULL: never
  used     timestamptz
);

-- sale is the activity's number. It is never given out twice, as names may be. published says that
-- the activity was on sale once: its items have units in Redis from then on. week is the partition
-- of its orders: the week in which it was to end when it was made, which never changes.
CREATE TABLE activities (
  id             text COLLATE "C" PRIMARY KEY,
  sale           integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  merchant       text COLLATE "C" NOT NULL REFERENCES merchants (id),
  name           text NOT NULL,
  state          text NOT NULL,
  starts_at      timestamptz NOT NULL,
  ends_at        timestamptz NOT NULL,
  payment_window bigint NOT NULL, -- nanoseconds
  ended_at       timestamptz,     -- NULL unless it was ended by hand
  archived_at    timestamptz,     -- NULL unless there is an archive of its orders
  archive_sum    text NOT NULL,
  published      boolean NOT NULL,
  week           integer NOT NULL,
  changed        bigint NOT NULL, -- the catalog's version of its last change
  items_changed  bigint NOT NULL  -- and of the last change of its items
);
CREATE INDEX activities_changed ON activities (changed);
CREATE INDEX activities_closed ON activities (least(ends_at, ended_at));
CREATE INDEX activities_of_week ON activities (week);

-- Dropped activities, for processes that have read the catalog before.
CREATE TABLE dropped_activities (
  id      text COLLATE "C" PRIMARY KEY,
  changed bigint NOT NULL,
  at      timestamptz NOT NULL
);
CREATE INDEX dropped_activities_changed ON dropped_activities (changed);

-- Order ids contain the item's id, so an id must never be used again; an identity column guarantees
-- that. sale is not a foreign key: the transaction that inserts items has locked their activity,
-- and a check for each of 20,000 items would take seconds.
CREATE TABLE items (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967294),
  sale       integer NOT NULL,
  position   integer NOT NULL,
  sku        text COLLATE "C" NOT NULL,
  price      bigint NOT NULL,
  currency   text NOT NULL,
  per_user   integer NOT NULL,
  max_orders integer NOT NULL,
  spread     integer NOT NULL CHECK (spread > 0),
  UNIQUE (sale, sku)
);

-- The units of an item on a shard. The CHECK is L1: whatever the code above it does, an item cannot
-- be oversold. The row is the lock of the units. It is rewritten with every batch, so it has room
-- for its next versions on its page.
CREATE TABLE stock (
  item  bigint NOT NULL,
  shard integer NOT NULL,
  total bigint NOT NULL,
  open  bigint NOT NULL DEFAULT 0,
  sold  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (item, shard),
  CHECK (open >= 0 AND sold >= 0 AND open + sold <= total)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX stock_of_shard ON stock (shard, item);

-- Promises that did not become orders in the ordinary way: units of parked orders, and how many
-- were skipped and rejected. They are not columns of stock, because it must be possible to park a
-- promise whose stock row is locked, or missing, or sold out because a shard forgot its data. Few
-- items ever have such a row.
CREATE TABLE stock_exceptions (
  item     bigint NOT NULL,
  shard    integer NOT NULL,
  parked   bigint NOT NULL CHECK (parked >= 0),
  skipped  bigint NOT NULL,
  rejected bigint NOT NULL,
  PRIMARY KEY (item, shard)
);
CREATE INDEX stock_exceptions_parked ON stock_exceptions (shard) WHERE parked > 0;

-- The weeks for which orders has a partition.
CREATE TABLE weeks (
  week integer PRIMARY KEY
);

-- A partition for each week, by the end of the sale; week 0 has orders whose item was not known. An
-- order has all its data in its row, so that it can be kept elsewhere when its partition is
-- dropped. It has no foreign key to items, because the transaction that inserts it has read the
-- items already.
CREATE TABLE orders (
  week       integer NOT NULL,
  id         text COLLATE "C" NOT NULL,
  item       bigint NOT NULL,
  merchant   text COLLATE "C" NOT NULL,
  caller     text COLLATE "C" NOT NULL,
  activity   text COLLATE "C" NOT NULL,
  sku        text COLLATE "C" NOT NULL,
  "user"     text COLLATE "C" NOT NULL,
  quantity   integer NOT NULL CHECK (quantity > 0),
  amount     bigint NOT NULL,
  currency   text NOT NULL,
  state      text COLLATE "C" NOT NULL,
  reason     text NOT NULL,
  units      text NOT NULL CHECK (units IN ('open', 'sold', 'void', 'parked')),
  created_at timestamptz NOT NULL,
  pay_by     timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  ended_at   timestamptz, -- when the units became sold or void
  shard      integer NOT NULL,
  epoch      bigint NOT NULL,
  seq        bigint NOT NULL, -- 0 if no record of the queue has the promise
  "partition" integer NOT NULL,
  "offset"   bigint NOT NULL,
  request    text COLLATE "C" NOT NULL,
  node       text NOT NULL,
  accepted   timestamptz NOT NULL,
  -- An id begins with its item and its buyer, so this also finds a buyer's orders of an item (L5).
  PRIMARY KEY (id, week)
) PARTITION BY RANGE (week);

-- For snapshots. Equal keys are kept in the order of the rows' places, so a batch adds its entries
-- at the end of a few pages, with 7 bytes each. The rows are then read in their order on the disk.
CREATE INDEX orders_of_shard ON orders (shard, item);
-- Time-outs, oldest first.
CREATE INDEX orders_to_time_out ON orders (shard, pay_by) WHERE state = 'pending_payment';
-- Parked orders to try again, those tried longest ago first.
CREATE INDEX orders_to_unpark ON orders (shard, updated_at) WHERE state = 'parked' AND reason = 'locked';

-- For searches by operators, newest first. Orders of a batch have one created_at, so all but the
-- first of an index's values are kept once for a batch, with 7 bytes an order.
CREATE INDEX orders_by_user ON orders ("user", created_at);
CREATE INDEX orders_by_request ON orders (request);
CREATE INDEX orders_by_caller ON orders (caller, created_at);
CREATE INDEX orders_by_activity ON orders (activity, created_at);
-- New orders go to the end of the first, which is the cheapest place of an index.
CREATE INDEX orders_pending ON orders (created_at) WHERE state = 'pending_payment';
CREATE INDEX orders_by_state ON orders (state, created_at) WHERE state <> 'pending_payment';

-- Every payment that a provider has reported, and the state of the money. early: its order has no
-- row yet. due: it must be refunded, because of its cause. done: it was refunded.
CREATE TABLE payments (
  merchant  text COLLATE "C" NOT NULL,
  payment   text COLLATE "C" NOT NULL,
  order_id  text COLLATE "C" NOT NULL,
  activity  text COLLATE "C" NOT NULL,
  sku       text COLLATE "C" NOT NULL,
  amount    bigint NOT NULL,
  currency  text COLLATE "C" NOT NULL,
  state     text NOT NULL CHECK (state IN ('booked', 'early', 'due', 'done')),
  cause     text COLLATE "C" NOT NULL,
  kept_at   timestamptz NOT NULL,
  done_at   timestamptz, -- NULL before it is done
  done_by   text NOT NULL,
  reference text NOT NULL,
  PRIMARY KEY (merchant, payment)
);
CREATE INDEX payments_by_id ON payments (payment);
CREATE INDEX payments_of_order ON payments (order_id);
CREATE INDEX payments_early ON payments (kept_at, merchant, payment) WHERE state = 'early';
CREATE INDEX refunds_due ON payments (kept_at, merchant, payment) WHERE state = 'due';
CREATE INDEX refunds_done ON payments (kept_at, merchant, payment) WHERE state = 'done';
CREATE INDEX refunds_due_of_merchant ON payments (merchant, kept_at, payment) WHERE state = 'due';
CREATE INDEX refunds_done_of_merchant ON payments (merchant, kept_at, payment) WHERE state = 'done';
-- Whether an activity may be dropped. Only refunds have entries, and few payments are refunds.
CREATE INDEX refunds_of_activity ON payments (activity, state, kept_at) WHERE state IN ('due', 'done');

-- Signed notices that were refused, for people to read. Equal notices of an order are counted.
CREATE TABLE refused_payments (
  order_id text COLLATE "C" NOT NULL,
  merchant text COLLATE "C" NOT NULL,
  payment  text COLLATE "C" NOT NULL,
  amount   bigint NOT NULL,
  currency text NOT NULL,
  problem  text NOT NULL,
  count    bigint NOT NULL,
  at       timestamptz NOT NULL,
  PRIMARY KEY (order_id, merchant, payment, amount, currency, problem)
);

-- What Redis must still be told. Rows live for milliseconds, so the table is vacuumed by their
-- number, not by a share of the rest.
CREATE TABLE outbox (
  id       bigint GENERATED ALWAYS AS IDENTITY,
  shard    integer NOT NULL,
  item     bigint NOT NULL,
  kind     text NOT NULL CHECK (kind IN ('sold', 'void', 'restock', 'publish')),
  stock    boolean NOT NULL, -- a stock change, which a snapshot counts
  name     text COLLATE "C" NOT NULL, -- the name of the hold, or the id of the restock
  buyer    text COLLATE "C" NOT NULL,
  quantity bigint NOT NULL CHECK (quantity >= 0),
  PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_of_item ON outbox (shard, item);
CREATE INDEX outbox_publish ON outbox (item) WHERE kind = 'publish';

-- Restocks (delta > 0) and withdrawals (delta < 0) by idempotency key.
CREATE TABLE stock_changes (
  item  bigint NOT NULL,
  key   text COLLATE "C" NOT NULL,
  delta bigint NOT NULL CHECK (delta <> 0),
  at    timestamptz NOT NULL,
  PRIMARY KEY (item, key)
);

-- The holds by which the shop took units of an item from a shard, and those that were buried: their
-- withdrawal must not commit after that. The primary key decides which of the two came first.
CREATE TABLE withdrawals (
  hold     text COLLATE "C" PRIMARY KEY,
  item     bigint NOT NULL,
  shard    integer NOT NULL,
  quantity bigint NOT NULL,
  buried   boolean NOT NULL,
  at       timestamptz NOT NULL
);
CREATE INDEX withdrawals_of_shard ON withdrawals (shard, item);

-- Records that no worker can use (order_id is ''), and parked orders that fit no item. A replaced
-- topic has the same partitions and offsets, so a digest distinguishes the records.
CREATE TABLE dead_letters (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id    text COLLATE "C" NOT NULL,
  "partition" integer NOT NULL,
  "offset"    bigint NOT NULL,
  at          timestamptz NOT NULL,
  problem     text NOT NULL,
  value       bytea NOT NULL
);
CREATE UNIQUE INDEX dead_letters_of_record ON dead_letters ("partition", "offset", md5(value)) WHERE order_id = '';
CREATE UNIQUE INDEX dead_letters_of_order ON dead_letters (order_id) WHERE order_id <> '';

-- Steps of orders and of their money that other systems must still be told. A row has many steps of
-- a transaction, encoded (seckill.AppendSteps) with the data of their orders. The bytes hardly
-- compress.
CREATE TABLE order_events (
  id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at    timestamptz NOT NULL, -- of the first step
  count int NOT NULL CHECK (count > 0),
  steps bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE order_events ALTER COLUMN steps SET STORAGE EXTERNAL;

-- Each change: its author, what was changed, and why; append-only.
CREATE TABLE changes (
  number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL,
  actor    text NOT NULL,
  token    text NOT NULL,
  address  text NOT NULL,
  reason   text NOT NULL,
  kind     text NOT NULL,
  key      text NOT NULL,
  "before" text NOT NULL,
  "after"  text NOT NULL
);

-- What operators did to an order, and to all orders of an activity.
CREATE INDEX changes_of_orders ON changes (key) WHERE kind IN ('order', 'extension');

-- Every version of every settings document; append-only. Its author and the reason are in changes.
-- The id is random: a restored database uses numbers again.
CREATE TABLE settings (
  name    text COLLATE "C" NOT NULL,
  version bigint NOT NULL CHECK (version > 0),
  id      text COLLATE "C" NOT NULL,
  at      timestamptz NOT NULL,
  body    text NOT NULL,
  PRIMARY KEY (name, version)
);

-- The known nodes: each until it stops cleanly, or until a person removes it. Logged, so that a
-- node that is cut off is still known after a crash of the database.
CREATE TABLE members (
  instance text COLLATE "C" PRIMARY KEY,
  name     text COLLATE "C" NOT NULL,
  enforces boolean NOT NULL,
  drain    boolean NOT NULL DEFAULT false,
  joined   timestamptz NOT NULL
);

-- The last report of each node, written some four times a second. The table is unlogged: after a
-- crash of the database the nodes write again within a second, and no replica needs the reports.
CREATE UNLOGGED TABLE beats (
  instance text COLLATE "C" PRIMARY KEY,
  seen     timestamptz NOT NULL,
  applied  text NOT NULL,
  rejected text NOT NULL,
  status   text NOT NULL
) WITH (fillfactor = 50);

-- +goose StatementBegin
CREATE FUNCTION penstock_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER changes_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON changes
  EXECUTE FUNCTION penstock_append_only();
CREATE TRIGGER settings_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settings
  EXECUTE FUNCTION penstock_append_only();

-- The incarnation of the database. Each part changes with one kind of new incarnation: another
-- database or a restored dump, a restart, and the promotion of a standby or a recovery to a point
-- in time.
-- +goose StatementBegin
CREATE FUNCTION penstock_incarnation() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT concat_ws('.',
    (SELECT lineage FROM installation),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    pg_relation_filenode('shards'),
    (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
    CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END)
$$;
-- +goose StatementEnd

-- The functions below run with their owner's rights, so that a process needs none to make or drop
-- tables.

-- +goose StatementBegin
CREATE FUNCTION penstock_add_week(week integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO weeks VALUES (penstock_add_week.week) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- The partition is made beside the table and then attached, which takes no lock that makes orders
  -- wait. CREATE TABLE … PARTITION OF would.
  EXECUTE format('CREATE TABLE orders_%1$s (LIKE orders INCLUDING ALL, CONSTRAINT orders_week CHECK (week >= %1$s AND week < %2$s))',
    week, week + 1);
  EXECUTE format('ALTER TABLE orders ATTACH PARTITION orders_%1$s FOR VALUES FROM (%1$s) TO (%2$s)', week, week + 1);
  EXECUTE format('ALTER TABLE orders_%1$s DROP CONSTRAINT orders_week', week);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION penstock_drop_week(week integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF week = 0 OR EXISTS (SELECT FROM activities AS a WHERE a.week = penstock_drop_week.week) THEN
    RAISE EXCEPTION 'week % has a sale', week;
  END IF;
  IF EXISTS (SELECT FROM orders AS o WHERE o.week = penstock_drop_week.week AND o.state = 'pending_payment') THEN
    RAISE EXCEPTION 'week % has open orders', week;
  END IF;
  DELETE FROM weeks AS w WHERE w.week = penstock_drop_week.week;
  EXECUTE format('DROP TABLE IF EXISTS orders_%s', week);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION penstock_drop_strays(before timestamptz) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
  DELETE FROM orders WHERE week = 0 AND units = 'void' AND updated_at < before
$$;
-- +goose StatementEnd

-- The names that such a function finds must not depend on its caller.
-- +goose StatementBegin
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['penstock_add_week(integer)', 'penstock_drop_week(integer)', 'penstock_drop_strays(timestamptz)'] LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  END LOOP;
END $$;
-- +goose StatementEnd

SELECT penstock_add_week(0);
