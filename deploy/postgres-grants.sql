-- What the role of Penstock's processes may do. The role that owns the schema runs it after each
-- "penstock migrate":
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres-grants.sql
--
-- The owner migrates; the processes run as penstock_app, with --keep-schema. They can't make,
-- change or drop a table (the weeks' partitions are made and dropped by functions with the owner's
-- rights), delete an order, or change what was recorded.

GRANT USAGE ON SCHEMA public TO penstock_app;

GRANT SELECT ON goose_db_version, installation, weeks TO penstock_app;
GRANT SELECT, INSERT ON changes, settings, payments TO penstock_app;
GRANT UPDATE (order_id, activity, sku, amount, currency, state, cause, kept_at, done_at, done_by, reference)
  ON payments TO penstock_app; -- a wrong amount may be corrected; whose payment it is stays
GRANT SELECT, UPDATE ON catalog, shards, shard_loads, shard_digests TO penstock_app;
GRANT SELECT, INSERT, UPDATE ON merchants, callers, orders, refused_payments, positions, kafka_cluster TO penstock_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON caller_keys, tokens, activities, dropped_activities, items, stock, stock_exceptions TO penstock_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox, order_events, members, beats, dead_letters TO penstock_app;
GRANT SELECT, INSERT, DELETE ON stock_changes, withdrawals TO penstock_app;

GRANT EXECUTE ON FUNCTION penstock_add_week(integer), penstock_drop_week(integer), penstock_drop_strays(timestamptz) TO penstock_app;
