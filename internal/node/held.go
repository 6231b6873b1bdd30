package node

import (
	"context"
	"time"

	"penstock/degrade"
	"penstock/internal/settings"
	"penstock/seckill"
	"penstock/seckill/backoffice"
)

// timeoutSwitch is the switch timeouts as the database has it. It is read before orders are cancelled, by the
// part that cancels them, so that it is in force as soon as it is written: also where this process has no other use
// for switches. Only that part's goroutine uses it.
type timeoutSwitch struct {
	switches *degrade.Controller // nil before the first look
	version  int64
	next     time.Time // when a switch ends; zero: none does
}

// heldTimeouts says of which orders the time to pay doesn't end for now.
func (n *Node) heldTimeouts(ctx context.Context) (backoffice.Held, error) {
	s := &n.timeouts
	d, now, err := n.servers.database.FindSettings(ctx, settings.Switches)
	if err != nil {
		return backoffice.Held{}, err
	}
	if s.switches == nil {
		s.switches = degrade.NewController()
	}
	if d.Version != s.version || !s.next.IsZero() && !now.Before(s.next) {
		document, err := degrade.ParseDocument(d.Body)
		if err != nil {
			return backoffice.Held{}, err
		}
		if s.next, err = s.switches.Apply(document, now); err != nil {
			return backoffice.Held{}, err
		}
		s.version = d.Version
	}
	return held(s.switches, n.sale.Desk.Catalog()), nil
}

// held lists the activities whose orders are not cancelled for now. An activity whose orders' time may be over has
// been in the catalog for at least as long.
func held(switches *degrade.Controller, catalog *seckill.Catalog) backoffice.Held {
	if !switches.TimeoutsScoped() {
		return backoffice.Held{All: switches.TimeoutsHeld("", "")}
	}
	var out backoffice.Held
	for sale := range catalog.Sales() {
		if switches.TimeoutsHeld(string(sale.Merchant), string(sale.ID)) {
			out.Activities = append(out.Activities, sale.ID)
		}
	}
	return out
}
