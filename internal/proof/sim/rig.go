package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The shop of all runs.
const (
	merchant = seckill.MerchantID("m1")
	activity = seckill.ActivityID("sale")
	secret   = "s3cret"
)

// skus are the items' names.
var skus = []seckill.SKU{"lamp", "vase"}

var (
	caller = seckill.CallerRef{Merchant: merchant, Caller: "app"}
	author = seckill.Author{Actor: "sim", Reason: "it may happen"}
	price  = seckill.Money{Minor: 1999, Currency: "CNY"}
)

// terms are the sale's.
type terms struct {
	Items   int   // how many there are, all on the same terms
	Units   int64 // of each
	PerUser int
	Spread  int           // over how many shards the item lies
	Window  time.Duration // to pay
	Slots   int           // of each process's queue buffer
}

// shards is how many the installation has: two, so that they share barriers and an item may be
// spread.
const shards = 2

// times are the ages of the protocol. They are in the same order as the product's, but short,
// because a run has to pass many of them.
func times() seckill.Config {
	c := seckill.DefaultConfig()
	c.AcceptDeadline, c.SweepAge = 2*time.Second, 6*time.Second
	c.Shards = shards
	c.BatchCap = 3 // so that sweeps and loads take several calls
	return c
}

// rig is an installation: the far sides, the wire to them, the processes that use it, and what has
// been seen of them. It lives in a synctest bubble and is driven by one goroutine.
type rig struct {
	ctx   context.Context
	cfg   seckill.Config
	terms terms
	path  *path
	began time.Time
	disks *disks

	wire  *wire
	redis *stocktest.Model
	log   *log
	hands hands           // do what goes on beside the driver
	store *sqlite.Store   // that all processes reach now
	disk  *disk           // of store
	rows  tables          // of store: orders and their counts
	old   []*sqlite.Store // that a restore has replaced
	used  []*disk         // of old
	items []inventory.ItemID

	processes []*process // alive, by name
	dead      []*process
	replica   func() // brings up a lagging replica; nil if none lags
	lags      int    // the shard whose replica lags; everyShard means all
	failovers int    // that forgot something
	losses    int    // of everything
	backup    image  // nil is none
	restores  int
	restarts  int                         // of the only process, with all that it has
	tails     int                         // tails that the log has lost, and topics that were made again
	gone      map[seckill.OrderID]bool    // orders of which the log lost a record
	locks     map[seckill.StockKey]func() // locked stock rows, and how to unlock them
	skew      atomic.Int64                // by how much the database's clock is ahead of all others
	parks     int                         // orders that were parked
	jumps     int                         // of the database's clock
	met       coverage

	amid func() // called while a snapshot is read; nil is nothing

	supply [][shards]supply // of each item, by shard

	unbalanced atomic.Bool // an auditor has seen that the books don't balance

	attempts []*attempt
	asks     []*ask
	keys     []key // every key that was used, in order
	changes  []*stockChange

	namesMu sync.Mutex
	names   map[string]string                       // guarded by namesMu: how the path calls orders and withdrawals
	epochs  map[inventory.ShardID][]inventory.Epoch // guarded by namesMu: in the order of their first mention

	wroteStock  bool   // Redis has changed since the last check
	wroteOrders bool   // so has the database, or what was said of it
	version     epoch  // of the rows that were checked
	broken      string // the law that broke
}

// newRig opens a shop with these processes.
func newRig(ctx context.Context, s *shop, t terms, names ...string) (*rig, error) {
	r := emptyRig(ctx, s.disks, t)
	if err := r.openStore(s.image, &s.first); err != nil {
		return nil, err
	}
	defer r.disk.answers.hasBegun()
	if err := r.moveIn(s); err != nil {
		return nil, errors.Join(err, r.close())
	}
	for _, name := range names {
		if _, err := r.start(name, false); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	r.rebalance()
	return r, nil
}

// emptyRig is an installation without a database.
func emptyRig(ctx context.Context, disks *disks, t terms) *rig {
	r := &rig{
		ctx: context.WithoutCancel(ctx), // nothing has to watch it, then
		cfg: times(), terms: t, began: time.Now(), path: new(path), wire: new(wire), disks: disks,
		redis: stocktest.NewModel(), log: new(log), names: make(map[string]string),
		epochs: make(map[inventory.ShardID][]inventory.Epoch), gone: make(map[seckill.OrderID]bool),
		locks: make(map[seckill.StockKey]func()), met: make(coverage),
		supply: make([][shards]supply, t.Items),
	}
	r.path.began = r.began
	return r
}

// openStore opens a database with an image in it, which all processes reach from now on. first are
// the image's first answers; nil is none.
func (r *rig) openStore(from image, first *firstAnswers) error {
	disk, err := r.disks.take(r.ctx, from, first)
	if err != nil {
		return err
	}
	store, err := sqlite.Open(r.ctx, sqlite.Config{
		Path: disk.file, Readers: 2, Shards: shards, Now: r.now, Connect: disk.connect,
	})
	if err != nil {
		return err
	}
	r.store, r.disk, r.rows = store, disk, disk.texts.of("orders stock").tables
	return nil
}

// replaceStore opens a database that takes the place of the one that all processes reach.
func (r *rig) replaceStore(from image) error {
	r.old, r.used = append(r.old, r.store), append(r.used, r.disk)
	r.wroteOrders = true
	return r.openStore(from, nil)
}

// now is the database's clock.
func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }

// jump sets the database's clock ahead. It never goes back: an epoch could be given out twice.
func (r *rig) jump(d time.Duration) {
	r.skew.Add(int64(d))
	r.jumps++
}

// lock locks an item's stock row on a shard, as another transaction would; unlock frees it.
func (r *rig) lock(key seckill.StockKey) {
	if r.locks[key] == nil {
		r.locks[key] = r.store.LockStock(key.Item, key.Shard)
	}
}

func (r *rig) unlock(key seckill.StockKey) {
	if free := r.locks[key]; free != nil {
		free()
		delete(r.locks, key)
	}
}

// takeBackup keeps the database as it is now. No transaction that writes is open.
func (r *rig) takeBackup() (err error) {
	r.backup, err = r.disk.read(r.ctx)
	return err
}

// restore puts the backup into the database's place. Transactions that are open end in the old one.
func (r *rig) restore() error {
	if err := r.replaceStore(r.backup); err != nil {
		return err
	}
	r.backup = nil
	r.restores++
	clear(r.locks)
	r.met.hit(r.wire, database, fateBack)
	return nil
}

// restart ends the only process and starts it again, as with embedded parts: the database opens
// again, Redis is empty, and only pages are still on their way.
func (r *rig) restart(p *process) error {
	r.crash(p)
	r.wire.dropLate(func(c *call) bool { return c.method != callPut })
	r.lose()
	now, err := r.disk.read(r.ctx)
	if err != nil {
		return err
	}
	if err := r.replaceStore(now); err != nil {
		return err
	}
	clear(r.locks)
	r.restarts++
	if _, err := r.start(p.name, true); err != nil {
		return err
	}
	r.rebalance()
	return nil
}

// loseTail loses the last records of a partition of the log.
func (r *rig) loseTail(p, n int) { r.forgetRecords(r.log.loseTail(p, n)) }

// makeAnew makes the topic again.
func (r *rig) makeAnew() { r.forgetRecords(r.log.makeAnew()) }

func (r *rig) forgetRecords(records []record) {
	for _, lost := range records {
		if page, err := seckill.ParsePage(lost.value); err == nil {
			for i := range page.Orders {
				r.gone[page.Orders[i].Order] = true
			}
		}
	}
	r.tails++
	r.wroteOrders = true
	r.met.hit(r.wire, queue, fateBack)
}

// close ends all processes and closes the store.
func (r *rig) close() error {
	for len(r.processes) > 0 {
		r.crash(r.processes[0])
	}
	r.bury()
	r.hands.end()
	var errs []error
	for _, store := range append(r.old, r.store) {
		errs = append(errs, store.Close())
	}
	for _, disk := range append(r.used, r.disk) {
		r.disks.give(disk)
	}
	return errors.Join(errs...)
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

// run executes a call. Its caller gets no answer yet.
func (r *rig) run(c *call) {
	r.wire.run(c)
	t := c.traits
	if accepted, ok := c.value.([]seckill.Acceptance); ok && c.method == callAccept {
		for i := range accepted {
			if accepted[i].Outcome == seckill.OutcomeParked {
				r.parks++
			}
		}
	}
	if t.to == redis && !t.reads {
		r.wroteStock = true
	}
}

// answer delivers the answer of an executed call. A close, an open or a doom is answered when the
// replicas have it, and all earlier writes.
func (r *rig) answer(c *call) {
	waits := c.method == callClose || c.method == callOpen || c.method == callDoom
	if c.err == nil && waits && (r.lags == everyShard || r.lags == int(c.shard)) {
		r.replica = nil
	}
	r.wire.answer(c, nil)
}

// everyShard says that one Redis has all shards.
const everyShard = -1

// lagging lets the replica of a shard's Redis, or of all, fall behind from here on.
func (r *rig) lagging(shard int) {
	r.lags = shard
	if shard == everyShard {
		r.replica = r.redis.Save()
	} else {
		r.replica = r.redis.SaveShard(inventory.ShardID(shard))
	}
}

// failover brings up the replica. Writes since it began to lag are forgotten, and calls that wait
// for the replica fail.
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

// cutRedis ends what can't survive the end of a Redis: the waits for its replicas, and late rebuild
// calls. Rebuild calls are sent once, by one process. The other late calls may still be executed at
// any time.
func (r *rig) cutRedis() {
	r.wroteStock = true
	r.met.hit(r.wire, redis, fateBack)
	rebuilds := func(c *call) bool {
		return c.method == callClose || c.method == callLoad || c.method == callOpen || c.method == callDoom
	}
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

// epochNumber returns the number of an epoch of a shard, in the order of their first mention:
// epochs are times, which say nothing to a reader.
func (r *rig) epochNumber(ref inventory.Ref) int {
	if ref.Epoch == 0 {
		return 0
	}
	r.namesMu.Lock()
	defer r.namesMu.Unlock()
	at := slices.Index(r.epochs[ref.Shard], ref.Epoch)
	if at < 0 {
		at = len(r.epochs[ref.Shard])
		r.epochs[ref.Shard] = append(r.epochs[ref.Shard], ref.Epoch)
	}
	return at + 1
}

// fails records the first law that breaks.
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

// note writes an action of the driver.
func (p *path) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, p.line(format, args))
}

// hear writes a message of a goroutine. Messages of the same step are sorted, so that their order
// doesn't depend on the Go scheduler.
func (p *path) hear(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, p.line(format, args))
}

func (p *path) line(format string, args []any) string {
	var room [256]byte
	text := fmt.Appendf(room[:0], "%9.3fs  ", time.Since(p.began).Seconds())
	text = fmt.Appendf(text, format, args...)
	if at := bytes.Index(text, []byte(incarnation)); at >= 0 { // random, in an error of the store
		text = text[:at]
	}
	return string(text)
}

const incarnation = ", in incarnation "

// look takes over the collected messages.
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
