package postgres

import (
	"github.com/penstock/penstock/seckill"
)

// record queues the record of a change.
func (tx *transaction) record(by seckill.Author, r seckill.ChangeRecord) {
	tx.exec(`INSERT INTO changes (at, actor, token, address, reason, kind, key, "before", "after")
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		tx.now, by.Actor, by.Token, by.Address, by.Reason, r.Kind, r.Key, r.Before, r.After)
}

// lockCatalog queues a lock for transactions in which people change the catalog, tokens or
// settings. They are few, and the lock lets each see the changes of the one before. Orders, fences
// and stock changes don't take it. lockCatalog also reads the catalog's version.
func (tx *transaction) lockCatalog() {
	tx.each(rowInto(&tx.version), "SELECT version FROM catalog FOR NO KEY UPDATE")
}

// raiseVersion returns the catalog's version for this transaction, and queues the change that tells
// gateways of it. The catalog must be locked.
func (tx *transaction) raiseVersion() int64 {
	if !tx.raised {
		tx.raised = true
		tx.version++
		tx.exec("UPDATE catalog SET version = $1", tx.version)
	}
	return tx.version
}
