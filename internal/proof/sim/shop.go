package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// shop is an installation whose activity is on sale, for the beginning of a run. It is made once,
// because publishing is always the same and would take a fifth of each run.
type shop struct {
	disks *disks
	image image // the database
	first firstAnswers
	items []inventory.ItemID
}

// of returns the terms that a shop is for: those of its processes are not.
func (t terms) of() terms {
	t.Slots = 0
	return t
}

// makeShop makes a merchant, a caller and an activity in a database with the schema, and publishes
// it.
func makeShop(ctx context.Context, disks *disks, schema image, t terms) (*shop, error) {
	r := emptyRig(ctx, disks, t)
	if err := r.openStore(schema, nil); err != nil {
		return nil, err
	}
	err := r.store.AddPartitions(ctx, topicID(0), partitions)
	if err == nil {
		err = r.openShop()
	}
	image, reading := r.disk.read(ctx)
	return &shop{disks: disks, image: image, items: r.items}, errors.Join(err, reading, r.close())
}

// openShop makes the merchant and the caller, and has a process publish the activity, with nothing
// in the way. Then that process is gone.
func (r *rig) openShop() error {
	r.wire.setDirect(true)
	defer r.wire.setDirect(false)
	app := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightBuy}
	if err := errors.Join(
		seckill.PutMerchant(r.ctx, r.store, seckill.Merchant{ID: merchant, Name: "Lamps", PaymentSecret: secret}, author),
		seckill.AddCaller(r.ctx, r.store, app, seckill.CallerKey{ID: "k-1", Prefix: "psk_app", Hash: [32]byte{1}}, author),
	); err != nil {
		return err
	}
	setup, err := r.start("setup", false)
	if err != nil {
		return err
	}
	sale := seckill.Activity{
		ID: activity, Merchant: merchant, Name: "Lamps", StartsAt: r.began, EndsAt: r.began.Add(24 * time.Hour),
		PaymentWindow: r.terms.Window,
	}
	for _, sku := range skus[:r.terms.Items] {
		sale.Items = append(sale.Items, seckill.Item{
			SKU: sku, Price: price, Quantity: r.terms.Units, PerUser: r.terms.PerUser, Spread: r.terms.Spread,
		})
	}
	if _, err := setup.sale.Office.PutActivity(r.ctx, sale, author); err != nil {
		return err
	}
	r.rebalance()
	r.wire.setDirect(false)
	return r.publish(setup)
}

// publish puts the activity on sale and opens the shards.
func (r *rig) publish(p *process) error {
	published := make(chan error, 1)
	p.goes(func() {
		activity, err := p.sale.Office.Publish(r.ctx, activity, author)
		for i := 0; err == nil && i < len(activity.Items); i++ {
			r.items = append(r.items, activity.Items[i].ID)
		}
		published <- err
	})
	for range 200 {
		r.beginAll()
		r.letAll()
		r.pass(100 * time.Millisecond)
		select {
		case err := <-published:
			return err
		default:
		}
	}
	return errors.New("the activity is not published after 20 s")
}

// letAll lets every call go through until none waits.
func (r *rig) letAll() {
	for r.look(); len(r.wire.waiting()) > 0; r.look() {
		c := r.wire.waiting()[0]
		if !c.executed {
			r.run(c)
		}
		r.answer(c)
	}
}

// moveIn sets Redis and the log to their state when the shop was made.
func (r *rig) moveIn(s *shop) error {
	r.items = s.items
	rows, err := r.store.Shards(r.ctx)
	if err != nil {
		return err
	}
	books, err := r.store.ActivityBooks(r.ctx, activity)
	if err != nil {
		return err
	}
	for _, row := range rows {
		var on []inventory.Stocked
		for i := range books {
			if b := &books[i]; b.Shard == row.Ref.Shard {
				on = append(on, inventory.Stocked{Item: b.Item, Total: b.Total, Available: b.Total})
			}
		}
		if err := errors.Join(
			r.redis.Close(r.ctx, row.Ref), r.redis.Load(r.ctx, row.Ref, on, nil), r.redis.Open(r.ctx, row.Ref, int64(len(on)), 0),
		); err != nil {
			return err
		}
		r.epochNumber(row.Ref) // is 1
	}
	at, err := r.store.Positions(r.ctx)
	if err != nil {
		return err
	}
	marker := seckill.AppendPage(nil, &seckill.Page{PageHeader: seckill.PageHeader{Put: r.began}})
	for _, p := range at {
		r.log.records[p.Partition] = slices.Repeat([]record{{marker, 0}}, int(p.Next))
	}
	return nil
}
