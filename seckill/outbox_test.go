package seckill

import (
	"testing"

	"github.com/penstock/penstock/inventory"
)

// TestOutgoing_Row: databases have rows with these words, so they never change.
func TestOutgoing_Row(t *testing.T) {
	hold := inventory.Hold{Item: 7, ID: "o-1", Buyer: "b", Quantity: 2}
	settled := OutboxRow{Item: 7, Name: "o-1", Buyer: "b", Quantity: 2}
	stock := OutboxRow{Item: 7, Name: "r-1", Quantity: -3}
	for kind, c := range map[string]struct {
		out Outgoing
		row OutboxRow
	}{
		"sold":    {Outgoing{Settlement: inventory.Settlement{Hold: hold, Kind: inventory.SettleSold}}, settled},
		"void":    {Outgoing{Settlement: inventory.Settlement{Hold: hold, Kind: inventory.SettleVoid}}, settled},
		"restock": {Outgoing{Restock: inventory.Restock{Item: 7, ID: "r-1", Units: -3}}, stock},
		"publish": {Outgoing{Restock: inventory.Restock{Item: 7, ID: "r-1", Units: -3, Publish: true}}, stock},
	} {
		t.Run(kind, func(t *testing.T) {
			want := c.row
			want.Kind = kind
			row := c.out.Row()
			if row != want {
				t.Errorf("row %+v, want %+v", row, want)
			}
			var back Outgoing
			if back.SetRow(&row); back != c.out {
				t.Errorf("back from the row: %+v, want %+v", back, c.out)
			}
		})
	}
}
