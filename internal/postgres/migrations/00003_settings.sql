-- +goose Up

-- Every version of every settings document; append-only. Who made it, and why, is in changes.
CREATE TABLE settings (
  name    text COLLATE "C" NOT NULL,
  version bigint NOT NULL CHECK (version > 0),
  at      timestamptz NOT NULL,
  body    text NOT NULL,
  PRIMARY KEY (name, version)
);

-- The nodes that have settings in force, written by each some four times a second. Unlogged: after a crash of the database they say
-- who they are again within a second, and no replica needs to know.
CREATE UNLOGGED TABLE nodes (
  instance text COLLATE "C" PRIMARY KEY,
  name     text COLLATE "C" NOT NULL,
  seen     timestamptz NOT NULL,
  applied  text NOT NULL,
  rejected text NOT NULL
) WITH (fillfactor = 50);
