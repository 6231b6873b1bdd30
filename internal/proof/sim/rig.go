package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"penstock/internal/proof/stocktest"
	"penstock/internal/sqlite"
	"penstock/inventory"
	"penstock/seckill"
)

// The shop that everything happens in.
const (
	merchant = seckill.MerchantID("m1")
	activity = seckill.ActivityID("sale")
	sku      = seckill.SKU("lamp")
	secret   = "s3cret"
)

var (
	caller = seckill.CallerRef{Merchant: merchant, Caller: "app"}
	author = seckill.Author{Actor: "sim", Reason: "it may happen"}
	price  = seckill.Money{Minor: 1999, Currency: "CNY"}
)

// terms are the sale's.
type terms struct {
	Units   int64
	PerUser int
	Window  time.Duration // to pay
	Slots   int           // of each process's queue buffer
}

// times are the ages of the protocol. Their order is the product's, their length is as short as a run that has to pass many of
// them likes it.
func times() seckill.Config {
	c := seckill.DefaultConfig()
	c.AcceptDeadline, c.WaitOut, c.SweepAge = 2*time.Second, 3*time.Second, 6*time.Second
	c.BatchCap = 3 // so that sweeps and loads take several calls
	return c
}

// rig is an installation: the far sides, the wire to them, the processes that use it, and what has been seen of them. It lives
// in a synctest bubble and is driven by one goroutine.
type rig struct {
	ctx   context.Context
	cfg   seckill.Config
	terms terms
	path  *path
	began time.Time

	wire  *wire
	redis *stocktest.Model
	log   *log
	store *sqlite.Store
	item  inventory.ItemID

	processes []*process // alive, by name
	dead      []*process
	leases    sync.Map // of *lease: rebuild locks that somebody has
	replica   func()   // brings up a replica that lags; nil where it doesn't
	failovers int      // that forgot something
	losses    int      // of everything

	unbalanced atomic.Bool // a rebuilder has seen that the books don't balance

	attempts []*attempt
	keys     []key // every key that was used, in order
	changes  []*stockChange

	namesMu sync.Mutex
	names   map[string]string // guarded by namesMu: how the path calls orders and withdrawals

	wrote  bool   // something has changed since the last check
	broken string // the law that broke
}

// newRig opens a shop whose item is on sale. template is a database file with the schema; dir is the rig's own.
func newRig(ctx context.Context, template, dir string, t terms, names ...string) (*rig, error) {
	r := &rig{
		ctx: ctx, cfg: times(), terms: t, began: time.Now(), path: new(path), wire: new(wire),
		redis: stocktest.NewModel(), log: new(log), names: make(map[string]string),
	}
	r.path.began = r.began
	file := filepath.Join(dir, "penstock.db")
	if err := copyFile(file, template); err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: file, Readers: 2})
	if err != nil {
		return nil, err
	}
	r.store = store
	if err := r.openShop(names); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// openShop makes the merchant and the caller, starts the processes and publishes the activity, with nothing in the way.
func (r *rig) openShop(names []string) error {
	r.wire.setDirect(true)
	defer r.wire.setDirect(false)
	app := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightBuy, KeyHash: [32]byte{1}}
	if err := errors.Join(
		r.store.PutMerchant(r.ctx, seckill.Merchant{ID: merchant, Name: "Lamps", PaymentSecret: secret}, author),
		r.store.AddCaller(r.ctx, app, author),
	); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := r.start(name); err != nil {
			return err
		}
	}
	sale := seckill.Activity{
		ID: activity, Merchant: merchant, Name: "Lamps", StartsAt: r.began, EndsAt: r.began.Add(24 * time.Hour),
		PaymentWindow: r.terms.Window,
		Items:         []seckill.Item{{SKU: sku, Price: price, Quantity: r.terms.Units, PerUser: r.terms.PerUser}},
	}
	office := r.processes[0].office
	if _, err := office.PutActivity(r.ctx, sale, author); err != nil {
		return err
	}
	published, err := office.Publish(r.ctx, activity, author)
	if err != nil {
		return err
	}
	r.item = published.Items[0].ID
	for _, p := range r.processes {
		if err := p.desk.Refresh(r.ctx); err != nil {
			return err
		}
	}
	r.rebalance()
	return nil
}

// close ends all processes and closes the store.
func (r *rig) close() error {
	for len(r.processes) > 0 {
		r.crash(r.processes[0])
	}
	r.bury()
	return r.store.Close()
}

// rebalance shares the partitions among the processes that are alive.
func (r *rig) rebalance() {
	var owners [partitions]*member
	for i := range owners {
		if len(r.processes) > 0 {
			owners[i] = r.processes[i%len(r.processes)].member
		}
	}
	r.log.assign(owners)
}

// process returns the live process of that name, or nil.
func (r *rig) process(name string) *process {
	for _, p := range r.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// look waits until every goroutine waits for the driver, or for time to pass.
func (r *rig) look() {
	synctest.Wait()
	r.path.look()
	r.wire.look()
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	r.look()
}

// run executes a call. Its caller hears nothing yet.
func (r *rig) run(c *call) {
	r.wire.run(c)
	r.wrote = r.wrote || !methods[c.method].reads
}

// answer delivers the answer of a call that was executed. A close or an open is answered when the replicas have it, and all
// that was written before.
func (r *rig) answer(c *call) {
	if c.err == nil && (c.method == callClose || c.method == callOpen) {
		r.replica = nil
	}
	r.wire.answer(c, nil)
}

// lagging lets the replica fall behind from here on.
func (r *rig) lagging() { r.replica = r.redis.Save() }

// failover brings up the replica: what was written since it lags is forgotten, and so is who was waiting for it to catch up.
func (r *rig) failover() {
	r.replica()
	r.replica = nil
	r.failovers++
	r.cutRedis()
}

// lose empties Redis.
func (r *rig) lose() {
	r.redis.Lose()
	r.replica = nil
	r.losses++
	r.cutRedis()
}

// cutRedis breaks what can't survive the end of a Redis: the wait for its replicas, and rebuild calls that linger on the way.
// Those are sent once, by one process; the others have no memory either and may come whenever they like.
func (r *rig) cutRedis() {
	r.wrote = true
	rebuilds := func(c *call) bool { return c.method == callClose || c.method == callLoad || c.method == callOpen }
	r.wire.dropLate(rebuilds)
	for _, c := range r.wire.waiting() {
		if rebuilds(c) && c.executed {
			r.wire.answer(c, c.method.unknown(errReset))
		}
	}
}

// alias returns how the path calls an order or a withdrawal.
func (r *rig) alias(id string) string {
	r.namesMu.Lock()
	defer r.namesMu.Unlock()
	if name, ok := r.names[id]; ok {
		return name
	}
	return id
}

func (r *rig) setAlias(id, name string) {
	r.namesMu.Lock()
	defer r.namesMu.Unlock()
	r.names[id] = name
}

// fails notes the first law that breaks.
func (r *rig) fails(format string, args ...any) {
	if r.broken == "" {
		r.broken = fmt.Sprintf(format, args...)
		r.path.note("BROKEN %s", r.broken)
	}
}

// path is what happened, a line each.
type path struct {
	began time.Time

	mu    sync.Mutex
	lines []string // guarded by mu
	heard []string // guarded by mu: of goroutines that ran since the driver looked
}

// note writes what the driver does.
func (p *path) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, p.line(format, args))
}

// hear writes what a goroutine says. Who spoke in the same step is put into an order that doesn't depend on the Go scheduler.
func (p *path) hear(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, p.line(format, args))
}

func (p *path) line(format string, args []any) string {
	return fmt.Sprintf("%9.3fs  ", time.Since(p.began).Seconds()) + fmt.Sprintf(format, args...)
}

// look takes over what was heard.
func (p *path) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.heard)
	p.lines = append(p.lines, p.heard...)
	p.heard = nil
}

func (p *path) String() string {
	p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
