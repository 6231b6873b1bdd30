package sqlite

import (
	"context"

	"github.com/penstock/penstock/seckill"
)

// record stores a change by a person.
func (tx *transaction) record(ctx context.Context, by seckill.Author, r seckill.ChangeRecord) error {
	_, err := tx.exec(ctx, `INSERT INTO changes (at, actor, token, address, reason, kind, key, "before", "after")
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		tx.now.UnixMicro(), by.Actor, by.Token, by.Address, by.Reason, r.Kind, r.Key, r.Before, r.After)
	return err
}

// raiseVersion tells gateways that the catalog changed, and returns the version of the change.
func (tx *transaction) raiseVersion(ctx context.Context) (version int64, err error) {
	_, err = one(ctx, tx, "UPDATE catalog SET version = version + 1 RETURNING version", nil, &version)
	return version, err
}
