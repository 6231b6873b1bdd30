package seckill

import "github.com/penstock/penstock/inventory"

// OutboxRow is an Outgoing as a store's columns have it. The values of its kinds never change. Name
// is the name of the hold or the restock; Buyer is "" for a restock.
type OutboxRow struct {
	Kind     string
	Item     inventory.ItemID
	Name     string
	Buyer    string
	Quantity int64
}

// The kinds of an OutboxRow.
const (
	outboxSold    = "sold"
	outboxVoid    = "void"
	outboxRestock = "restock"
	outboxPublish = "publish"
)

// Row returns the columns of o, without its shard and Stock.
func (o *Outgoing) Row() OutboxRow {
	if r := &o.Restock; r.Item != 0 {
		row := OutboxRow{Kind: outboxRestock, Item: r.Item, Name: r.ID, Quantity: r.Units}
		if r.Publish {
			row.Kind = outboxPublish
		}
		return row
	}
	end := &o.Settlement
	row := OutboxRow{Kind: outboxVoid, Item: end.Item, Name: end.ID, Buyer: end.Buyer, Quantity: int64(end.Quantity)}
	if end.Kind == inventory.SettleSold {
		row.Kind = outboxSold
	}
	return row
}

// SetRow is the reverse of Row: it sets the Restock or the Settlement.
func (o *Outgoing) SetRow(row *OutboxRow) {
	if row.Kind == outboxRestock || row.Kind == outboxPublish {
		o.Restock = inventory.Restock{Item: row.Item, ID: row.Name, Units: row.Quantity, Publish: row.Kind == outboxPublish}
		return
	}
	o.Settlement.Hold = inventory.Hold{Item: row.Item, ID: row.Name, Buyer: row.Buyer, Quantity: int(row.Quantity)}
	o.Settlement.Kind = inventory.SettleVoid
	if row.Kind == outboxSold {
		o.Settlement.Kind = inventory.SettleSold
	}
}
