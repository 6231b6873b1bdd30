-- +goose Up

-- Steps of orders that other systems have yet to hear of; what a step doesn't change is in the order's row. AUTOINCREMENT, because a
-- relay deletes by id after it has delivered.
CREATE TABLE order_events (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id TEXT NOT NULL,
  state    TEXT NOT NULL,
  reason   TEXT NOT NULL,
  at       INTEGER NOT NULL
) STRICT;
