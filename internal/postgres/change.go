package postgres

import (
	"encoding/json"
	"fmt"

	"penstock/inventory"
	"penstock/seckill"
)

// The kinds of changes.
const (
	kindMerchant    = "merchant"
	kindCaller      = "caller"
	kindActivity    = "activity"
	kindStock       = "stock"
	kindToken       = "token"
	kindDeadLetters = "dead-letters"
)

// The JSON of a change is that of the seckill type without its secrets, so it decodes into that type again.
type (
	merchantChange struct {
		ID               seckill.MerchantID
		Name             string
		NewPaymentSecret bool `json:",omitempty"` // it changed; to what is nobody's business
	}
	callerChange struct {
		seckill.CallerRef
		Name    string
		Rights  seckill.Rights
		Shadow  bool
		Revoked bool
	}
	tokenChange struct {
		Name    string
		Role    seckill.Role
		NewHash bool `json:",omitempty"`
	}
	stockLevel struct {
		Item  inventory.ItemID
		Total int64
	}
	stockChange struct {
		seckill.StockChange
		Total int64
	}
)

func changeOfCaller(c *seckill.Caller) *callerChange {
	return &callerChange{c.CallerRef, c.Name, c.Rights, c.Shadow, c.Revoked}
}

// record queues a change; before or after is nil for what was made or deleted.
func (tx *transaction) record(by seckill.Author, kind, key string, before, after any) error {
	texts := [2]string{}
	for i, v := range [...]any{before, after} {
		if v == nil {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("record the change of %s %s: %w", kind, key, err)
		}
		texts[i] = string(text)
	}
	tx.exec(`INSERT INTO changes (at, actor, reason, kind, key, "before", "after") VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.now, by.Actor, by.Reason, kind, key, texts[0], texts[1])
	return nil
}

// recordCatalog is record for a change that gateways must learn of.
func (tx *transaction) recordCatalog(by seckill.Author, kind, key string, before, after any) error {
	if err := tx.record(by, kind, key, before, after); err != nil {
		return err
	}
	tx.raiseVersion()
	return nil
}

// raiseVersion tells gateways that the catalog changed. It is the last lock that a transaction takes.
func (tx *transaction) raiseVersion() { tx.exec("UPDATE catalog SET version = version + 1") }
