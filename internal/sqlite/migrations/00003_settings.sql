-- +goose Up

-- Every version of every settings document; append-only. Who made it, and why, is in changes.
CREATE TABLE settings (
  name    TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version > 0),
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
