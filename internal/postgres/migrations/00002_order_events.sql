-- +goose Up

-- Steps of orders that other systems have yet to hear of; what a step doesn't change is in the order's row, which sale finds. Rows live
-- for as long as it takes to tell somebody, so it is vacuumed by their number, as the outbox is.
CREATE TABLE order_events (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sale     integer NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  state    text NOT NULL,
  reason   text NOT NULL,
  at       timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
