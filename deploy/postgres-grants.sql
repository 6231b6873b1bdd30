-- What the role of Penstock's processes may do, for the role that owns the schema to run after each "penstock migrate":
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres-grants.sql
--
-- The owner migrates; the processes run as penstock_app, with --keep-schema. They can't make, change or drop a table (activities'
-- partitions are made and dropped by two functions with the owner's rights), delete an order, or change what was recorded.

GRANT USAGE ON SCHEMA public TO penstock_app;

GRANT SELECT ON goose_db_version TO penstock_app;
GRANT SELECT, INSERT ON changes, payments, settings TO penstock_app;
GRANT SELECT, UPDATE ON catalog TO penstock_app;
GRANT SELECT, INSERT, UPDATE ON merchants, callers, orders TO penstock_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON tokens, activities, items, outbox, order_events, nodes TO penstock_app;
GRANT SELECT, INSERT, DELETE ON stock_changes, withdrawal_tombstones TO penstock_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON dead_letters TO penstock_app;

GRANT EXECUTE ON FUNCTION penstock_add_sale(integer), penstock_drop_sale(integer) TO penstock_app;
