-- +goose Up

-- Times are timestamptz: microseconds, shown in whoever's zone. Prices and amounts are minor units. Names are opaque and
-- compared byte by byte, so their collation is C. There is no way down: a schema that lost data cannot give it back, a backup can.

-- The catalog's version: raised in the transaction of every change that a gateway must learn of.
CREATE TABLE catalog (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  version bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO catalog (version) VALUES (1);

CREATE TABLE merchants (
  id             text COLLATE "C" PRIMARY KEY,
  name           text NOT NULL,
  payment_secret text NOT NULL
);

-- A caller is never deleted, so its name is never given out twice.
CREATE TABLE callers (
  merchant text COLLATE "C" NOT NULL REFERENCES merchants (id),
  caller   text COLLATE "C" NOT NULL,
  name     text NOT NULL,
  rights   smallint NOT NULL,
  shadow   boolean NOT NULL,
  key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
  revoked  boolean NOT NULL,
  created  timestamptz NOT NULL,
  PRIMARY KEY (merchant, caller)
);

CREATE TABLE tokens (
  name    text COLLATE "C" PRIMARY KEY,
  role    smallint NOT NULL,
  hash    bytea NOT NULL CHECK (length(hash) = 32),
  created timestamptz NOT NULL
);

-- sale is the activity's number: it names the partition of its orders, and is never given out twice, as names may be.
CREATE TABLE activities (
  id             text COLLATE "C" PRIMARY KEY,
  sale           integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  merchant       text COLLATE "C" NOT NULL REFERENCES merchants (id),
  name           text NOT NULL,
  state          text NOT NULL,
  starts_at      timestamptz NOT NULL,
  ends_at        timestamptz NOT NULL,
  payment_window bigint NOT NULL, -- nanoseconds
  ended_at       timestamptz      -- NULL unless it was ended by hand
);

-- Order ids carry the item's id, so one must not come back; an identity column doesn't give it out again.
-- The last CHECK is L1: whatever the code above it does, an item cannot be oversold.
-- The row is its item's lock and is rewritten with every batch, so it has room for its next versions on its page.
CREATE TABLE items (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
  sale          integer NOT NULL REFERENCES activities (sale),
  position      integer NOT NULL,
  sku           text COLLATE "C" NOT NULL,
  price         bigint NOT NULL,
  currency      text NOT NULL,
  per_user      integer NOT NULL,
  total         bigint NOT NULL,
  open          bigint NOT NULL DEFAULT 0,
  sold          bigint NOT NULL DEFAULT 0,
  epoch         bigint NOT NULL DEFAULT 0,
  next_epoch    bigint NOT NULL DEFAULT 0, -- the highest given out
  suspect_epoch bigint NOT NULL DEFAULT 0, -- suspect while it is the item's epoch: a fence ends the suspicion by itself
  skipped       bigint NOT NULL DEFAULT 0,
  rejected      bigint NOT NULL DEFAULT 0,
  UNIQUE (sale, sku),
  CHECK (open >= 0 AND sold >= 0 AND open + sold <= total)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A partition for each activity. It says everything about its orders, so that it can be kept elsewhere when it is dropped.
-- Nothing refers to items here: who inserts has the item's row locked, and a lookup per order would tell what is known.
CREATE TABLE orders (
  sale       integer NOT NULL,
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
  state      text NOT NULL,
  reason     text NOT NULL,
  units      text NOT NULL CHECK (units IN ('open', 'sold', 'void')),
  created_at timestamptz NOT NULL,
  pay_by     timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  shard      integer NOT NULL,
  epoch      bigint NOT NULL,
  seq        bigint NOT NULL,
  PRIMARY KEY (id, sale)
) PARTITION BY LIST (sale);

-- L5: the units a buyer has of an item, without touching the order.
CREATE INDEX orders_of_buyer ON orders ("user", item) INCLUDE (quantity) WHERE units <> 'void';
-- Time-outs, oldest first.
CREATE INDEX orders_to_time_out ON orders (pay_by) WHERE state = 'pending_payment';

CREATE TABLE payments (
  merchant   text COLLATE "C" NOT NULL,
  payment    text COLLATE "C" NOT NULL,
  order_id   text COLLATE "C" NOT NULL,
  amount     bigint NOT NULL,
  currency   text NOT NULL,
  refund_due boolean NOT NULL,
  kept_at    timestamptz NOT NULL,
  PRIMARY KEY (merchant, payment)
);

-- What Redis has yet to be told. Rows live for milliseconds, so it is vacuumed by their number, not by a share of what is left.
CREATE TABLE outbox (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  item     bigint NOT NULL,
  kind     text NOT NULL CHECK (kind IN ('sold', 'void', 'restock')),
  stock    boolean NOT NULL, -- a restock or a withdrawal's hold, which a fence's snapshot counts
  name     text COLLATE "C" NOT NULL, -- the hold's, or the restock's key
  buyer    text COLLATE "C" NOT NULL,
  quantity integer NOT NULL CHECK (quantity > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_stock ON outbox (item) WHERE stock;

-- Restocks (delta > 0) and withdrawals (delta < 0, with their hold) by idempotency key.
CREATE TABLE stock_changes (
  item  bigint NOT NULL,
  key   text COLLATE "C" NOT NULL,
  delta bigint NOT NULL CHECK (delta <> 0),
  hold  text COLLATE "C" NOT NULL,
  at    timestamptz NOT NULL,
  PRIMARY KEY (item, key)
);
CREATE UNIQUE INDEX stock_changes_of_hold ON stock_changes (item, hold) WHERE hold <> '';

-- Withdrawals' holds that were buried: the withdrawal must not commit any more. A table of its own, because a key is the
-- client's to choose and could be made to look like a hold.
CREATE TABLE withdrawal_tombstones (
  item     bigint NOT NULL,
  hold     text COLLATE "C" NOT NULL,
  quantity integer NOT NULL,
  at       timestamptz NOT NULL,
  PRIMARY KEY (item, hold)
);

CREATE TABLE dead_letters (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  "partition" integer NOT NULL,
  "offset"    bigint NOT NULL,
  at          timestamptz NOT NULL,
  problem     text NOT NULL,
  value       bytea NOT NULL,
  UNIQUE ("partition", "offset")
);

-- Who changed what, and why; append-only.
CREATE TABLE changes (
  number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL,
  actor    text NOT NULL,
  reason   text NOT NULL,
  kind     text NOT NULL,
  key      text NOT NULL,
  "before" text NOT NULL,
  "after"  text NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION penstock_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER changes_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON changes
  EXECUTE FUNCTION penstock_append_only();

-- The two functions below run with their owner's rights, so that a process needs none to make or drop tables.

-- +goose StatementBegin
CREATE FUNCTION penstock_add_sale(sale integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  -- Made beside the table and attached, it takes no lock that keeps orders waiting; CREATE TABLE … PARTITION OF does.
  EXECUTE format('CREATE TABLE orders_%1$s (LIKE orders INCLUDING ALL, CONSTRAINT orders_sale CHECK (sale = %1$s))', sale);
  EXECUTE format('ALTER TABLE orders ATTACH PARTITION orders_%1$s FOR VALUES IN (%1$s)', sale);
  EXECUTE format('ALTER TABLE orders_%1$s DROP CONSTRAINT orders_sale', sale);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION penstock_drop_sale(sale integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF EXISTS (SELECT FROM items WHERE items.sale = penstock_drop_sale.sale AND items.open > 0) THEN
    RAISE EXCEPTION 'sale % has open orders', sale;
  END IF;
  EXECUTE format('DROP TABLE orders_%s', sale);
END $$;
-- +goose StatementEnd

-- What such a function finds must not depend on who calls it.
-- +goose StatementBegin
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['penstock_add_sale', 'penstock_drop_sale'] LOOP
    EXECUTE format('ALTER FUNCTION %I(integer) SET search_path = %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %I(integer) FROM PUBLIC', name);
  END LOOP;
END $$;
-- +goose StatementEnd
