package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mutantsFlag = flag.String("sim.mutants", "", "take rules out of the code and demand that a test fails: all, or some by name, with commas")
	tableFlag   = flag.Bool("sim.table", false, "write the table of the mutants anew")
)

// mutant is a rule of the protocol, taken out of the code. The names are internal/proof/protocol's
// where it has the rule too.
type mutant struct {
	name    string
	rule    string
	patches []patch
	caught  proof
}

// patch replaces a text that a file has just once.
type patch struct{ file, old, new string }

// proof is a test that fails without the rule.
type proof struct {
	law  string // that is broken; "" where the test is about something below the laws
	pkg  string
	test string
	args []string
}

// history is the proof that a scenario ends in a broken law. Its expectations on the way are
// ignored.
func history(law, scenario string) proof {
	return proof{law, "./internal/proof/sim", "TestScenarios/" + scenario, []string{"-sim.laws"}}
}

// expectation is the proof that a scenario does not go as written. Nothing else is visible where
// the audit repairs the damage.
func expectation(scenario string) proof {
	return proof{"", "./internal/proof/sim", "TestScenarios/" + scenario, nil}
}

// seeds is the proof that one of the first seeds breaks a law. law is "" if it isn't always the
// same one.
func seeds(law string) proof {
	return proof{law, "./internal/proof/sim", "TestSim", []string{"-sim.seeds=1000", "-sim.whole"}}
}

// conformance compares the Lua scripts with the model that the scenarios use.
var conformance = proof{"", "./inventory", "TestMiniredis", nil}

// replicated is a test of package inventory.
var replicated = proof{"", "./inventory", "TestCloseAndOpenWaitForReplicas", nil}

// fencedWorker is a test of two transactions at once. SQLite has one at a time, and so has the
// simulator.
var fencedWorker = proof{"", "./internal/postgres", "TestL2_AFenceWaitsForAWorkerInTheMiddle", nil}

// movedOnce is a case of the stores' suite.
var movedOnce = proof{"", "./internal/sqlite", "TestStore/Stock/TestL4_UnitsAreMovedOncePerHold", nil}

// judged is a test of the real consumer, because the simulator's log has its own.
var judged = proof{"", "./internal/kafka", "TestPlace_Judge", nil}

// waitedOut is a test of the times, because the simulator has no old primary after a failover.
var waitedOut = proof{"L2", "./seckill", "TestL2_WaitOutOutlivesAReplacedPrimary", nil}

const (
	buyFile      = "seckill/desk/buy.go"
	flightFile   = "seckill/desk/flight.go"
	statusFile   = "seckill/desk/status.go"
	sweepFile    = "seckill/backoffice/sweep.go"
	rebuildFile  = "seckill/backoffice/rebuild.go"
	barrierFile  = "seckill/backoffice/barrier.go"
	workerFile   = "seckill/backoffice/worker.go"
	auditFile    = "seckill/backoffice/audit.go"
	moveFile     = "seckill/backoffice/move.go"
	relayFile    = "seckill/backoffice/relay.go"
	decideFile   = "seckill/decide.go"
	modelFile    = "internal/proof/stocktest/model.go"
	sqliteAccept = "internal/sqlite/accept.go"
	sqliteShard  = "internal/sqlite/shard.go"
	sqliteStock  = "internal/sqlite/stock.go"
	sqliteOutbox = "internal/sqlite/outbox.go"
	sqliteSnap   = "internal/sqlite/snapshot.go"
	sqliteSchema = "internal/sqlite/migrations/00001_schema.sql"

	paymentFile    = "seckill/payment.go"
	orderFile      = "seckill/order.go"
	lineFile       = "seckill/desk/line.go"
	payFile        = "seckill/desk/pay.go"
	restockFile    = "seckill/desk/restock.go"
	sqliteOrder    = "internal/sqlite/order.go"
	sqliteBury     = "internal/sqlite/bury.go"
	sqlitePosition = "internal/sqlite/position.go"
)

// mutants are all rules.
func mutants() []mutant {
	var all []mutant
	for _, some := range [][]mutant{sweepMutants, rebuildMutants, barrierMutants, workerMutants, deskMutants, stockMutants, luaMutants,
		decisionMutants, storeMutants, officeMutants, buyerMutants, shelfMutants, scriptMutants,
		postgresMutants, kafkaMutants, keptMutants, heldMutants} {
		all = append(all, some...)
	}
	return all
}

var sweepMutants = []mutant{
	{
		"nodoom", "a hold is doomed before it is decided, so that a repeat of the key promises nothing meanwhile",
		[]patch{{sweepFile, "	states, err := s.stock.Doom(ctx, ref, n.seq, orphans)\n",
			"	states, err := make([]inventory.State, len(orphans)), error(nil)\n" +
				"	for i := range states {\n		states[i] = inventory.Doomed\n	}\n"}},
		history("L2", "repeat-of-a-doomed-key"),
	},
	{
		"nodoomwait", "a doom is replicated before it counts",
		[]patch{{"inventory/rebuild.go", "		if err := s.waitForReplicas(ctx, c); err != nil {\n",
			"		if sc == &s.scripts.doom {\n			return nil\n		}\n		if err := s.waitForReplicas(ctx, c); err != nil {\n"}},
		replicated,
	},
	{
		"nodoomout", "after a doom the accept deadline is waited out, then comes the barrier",
		[]patch{{sweepFile, "	if !wait.For(ctx, s.cfg.WaitOut()) {", "	if !wait.For(ctx, 0) {"}},
		history("L2", "failover-forgets-a-touch"),
	},
	{
		"nobarrier (sweep)", "the sweeper decides when the workers have passed a barrier behind the doom",
		[]patch{{sweepFile, "	if err := s.barrier.Pass(ctx); err != nil {", "	if err := ctx.Err(); err != nil {"}},
		history("L2", "sweep-waits-for-a-barrier"),
	},
	{
		"nosettlefromrow", "the sweeper settles the hold of an ended order from its row",
		[]patch{{sweepFile, "		case orders[i].Units == seckill.UnitsVoid:\n			ended", "		case false:\n			ended"}},
		expectation("crash-8-fresh"),
	},
	{
		"nosettlewithdrawal", "the sweeper settles the hold of a withdrawal that has its tombstone",
		[]patch{{sweepFile, "			case withdrawal:\n", "			case false:\n"}},
		expectation("withdrawal-settled-then-forgotten"),
	},
	{
		"no sweep age", "a hold is old when its sweep age has passed by the sweeper's own clock",
		[]patch{{sweepFile, "		if time.Now().Before(n.due) || ", "		if "}},
		expectation("crash-2-hold"),
	},
	{
		"olddoom", "a tombstone needs a doom of this life of the database",
		[]patch{{sweepFile, "	for _, d := range now {\n", "	for _, d := range now {\n		d.incarnation, _ = s.store.Incarnation(ctx)\n"}},
		history("L2", "doom-of-an-older-life"),
	},
	{
		"oldbury", "a tombstone needs a barrier of this life of the database",
		[]patch{{sqliteShard, "SELECT 1 FROM shards WHERE id = ? AND epoch = ?\n		AND (SELECT incarnation FROM installation) = ?",
			"SELECT 1 FROM shards WHERE id = ? AND epoch = ?\n		AND ? <> ''"}},
		history("L2", "tombstone-of-an-older-life"),
	},
	{
		"nofence (tombstones)", "a sweeper of an older epoch writes nothing",
		[]patch{{sqliteShard, "SELECT 1 FROM shards WHERE id = ? AND epoch = ?\n		AND (SELECT",
			"SELECT 1 FROM shards WHERE id = ? AND epoch <> -?\n		AND (SELECT"}},
		history("L2", "tombstone-of-an-older-epoch"),
	},
	{
		"noaudit", "an audit that finds a difference asks for a rebuild",
		[]patch{{auditFile, "ctx.Err() == nil && !now.Before(at.next) {", "false && !now.Before(at.next) {"}},
		history("L3", "crash-8-ordered"),
	},
	{
		"auditcounts", "the audit compares holds with rows, not only their counts",
		[]patch{{auditFile, "	again := found != difference{} && found == at.sums\n", "	again := false\n"}},
		history("L3", "crash-8-swapped"),
	},
	{
		"lossy relay", "an outbox row is deleted when the shard has what it says, not before",
		[]patch{{relayFile, "	if len(ends) > 0 && r.sent(ctx, ref, len(ends), r.stock.Settle(ctx, ref, ends)) {",
			"	if len(ends) > 0 && (r.sent(ctx, ref, len(ends), r.stock.Settle(ctx, ref, ends)) || true) {"}},
		expectation("cut-off-from-redis"),
	},
}

var rebuildMutants = []mutant{
	{
		"nowaitout", "a rebuild waits out the accept deadline",
		[]patch{{rebuildFile, "!wait.For(ctx, r.cfg.WaitOut()) {", "!wait.For(ctx, 0) {"}},
		history("L2", "rebuild-waits-out-the-promises"),
	},
	{
		"nobarrier (rebuild)", "a rebuild reads its snapshot when the workers have passed its barrier",
		[]patch{{rebuildFile, "		err = r.barrier.Pass(ctx)\n", "		err = ctx.Err()\n"}},
		history("L2", "rebuild-waits-for-the-workers"),
	},
	{
		"nolag", "a wait-out lasts until an isolated primary takes no more writes",
		[]patch{{"seckill/config.go", "return c.AcceptDeadline + c.ReplicaLag + answerMargin", "return c.AcceptDeadline + answerMargin"}},
		waitedOut,
	},
	{
		"snapshotfirst", "the snapshot is taken after the epoch is set, or with it",
		[]patch{
			{rebuildFile, "	if err := r.store.Fence(ctx, ref, incarnation); err != nil {\n		return fmt.Errorf(\"fence: %w\", err)\n	}\n", ""},
			{rebuildFile, "	r.mu.Lock()\n	r.mine[ref.Shard] = true\n",
				"	if err := r.store.Fence(ctx, ref, incarnation); err != nil {\n		return fmt.Errorf(\"fence: %w\", err)\n	}\n" +
					"	r.mu.Lock()\n	r.mine[ref.Shard] = true\n"},
			{sqliteSnap, "\"SELECT 1 FROM shards WHERE id = ? AND epoch = ? AND epoch > 0 AND loaded_epoch < epoch\"",
				"\"SELECT 1 FROM shards WHERE id = ? AND epoch <> -?\""},
			{sqliteSnap, "UPDATE shards SET loaded_epoch = epoch WHERE id = ? AND epoch = ? AND loaded_epoch < epoch",
				"UPDATE shards SET loaded_epoch = ?2 WHERE id = ?1"},
		},
		history("L2", "page-before-the-fence"),
	},
	{
		"noshardlock", "the worker's transaction has the shard's row while it decides",
		[]patch{{"internal/postgres/ledger.go", "ORDER BY id FOR SHARE\"+how, slices", "ORDER BY id \"+strings.TrimSuffix(how, skipLocked), slices"},
			{"internal/postgres/ledger.go", "	\"slices\"\n", "	\"slices\"\n	\"strings\"\n"}},
		fencedWorker,
	},
	{
		"barriernowait", "a barrier serves no shard whose wait-out ended after its marker",
		[]patch{
			{rebuildFile, "	if !first && !r.dead(refs) && !wait.For(ctx, r.cfg.WaitOut()) {\n		return\n	}\n", ""},
			{rebuildFile, "		err = r.barrier.Pass(ctx)\n	}\n",
				"		err = r.barrier.Pass(ctx)\n	}\n	if !first && !r.dead(refs) && !wait.For(ctx, r.cfg.WaitOut()) {\n		return\n	}\n"},
		},
		history("L2", "barrier-without-a-wait"),
	},
	{
		"noaheadheal", "a shard ahead of the books is rebuilt",
		[]patch{{rebuildFile, "row.Ref.Epoch < epoch ||", ""}},
		history("L3", "shard-ahead-of-the-books"),
	},
	{
		"notlast", "a fence is of the last epoch that was given out",
		[]patch{{sqliteShard, "WHERE id = ?1 AND next_epoch = ?2 AND next_epoch > 0", "WHERE id = ?1 AND next_epoch > 0"}},
		history("L2", "two-rebuilders"),
	},
	{
		"oldfence", "a fence needs a barrier of this life of the database",
		[]patch{{sqliteShard, "AND (SELECT incarnation FROM installation) = ?3", "AND ?3 <> ''"}},
		history("L2", "fence-of-an-older-life"),
	},
	{
		"reuse", "no epoch is given out twice, even by a restored database",
		[]patch{{sqliteShard, "max(next_epoch + 1, epoch + 1, ?2)", "max(next_epoch + 1, epoch + 1, 0 * ?2)"}},
		expectation("epoch-given-out-twice"),
	},
	{
		"noabsorb", "a fence takes stock that its snapshot counts out of the outbox",
		[]patch{{sqliteSnap, "DELETE FROM outbox WHERE shard = ? AND stock = 1 AND id <= ?", "DELETE FROM outbox WHERE shard = ? AND stock = 1 AND id < -?"}},
		expectation("restock-during-a-rebuild"),
	},
	{
		"early stock rows", "stock changes wait in the outbox until the snapshot of the shard's epoch was taken",
		[]patch{{sqliteOutbox, "AND s.epoch > 0 AND (o.stock = 0 OR s.loaded_epoch = s.epoch)", "AND s.epoch > 0"}},
		expectation("restock-read-before-the-snapshot"),
	},
	{
		"restored loads", "a shard whose snapshot was lost with a restored database is rebuilt",
		[]patch{{rebuildFile, "row.Ref.Epoch == epoch && row.Unloaded", "false"}},
		history("L3", "restored-between-fence-and-snapshot"),
	},
	{
		"noparkunit", "a snapshot counts the unit of a parked row",
		[]patch{{sqliteSnap, "s.total - s.open - s.sold - ` + parkedOf + `, s.sold", "s.total - s.open - s.sold, s.sold"}},
		history("L2", "locked-row-and-a-rebuild"),
	},
	{
		"noopencheck", "a rebuild opens a shard only with all that it has loaded",
		[]patch{{modelFile, "if l := s.levels(); l.Items != items || l.Names != names {", "if l := s.levels(); l.Items < 0 {"}},
		expectation("failover-during-a-rebuild"),
	},
}

var barrierMutants = []mutant{
	{
		"stuckbarrier", "a barrier that the log lost is written again",
		[]patch{{barrierFile, "context.WithTimeout(ctx, barrierTimeout)", "context.WithTimeout(ctx, 100*barrierTimeout)"}},
		expectation("lost-markers"), // finally a record comes, and the barrier is passed
	},
	{
		"barrierearly", "a barrier serves no shard whose close came after its marker",
		joinsEarly,
		history("L2", "barrier-joined-too-early"),
	},
	{
		"barrierdoom", "a barrier serves no hold whose doom came after its marker",
		joinsEarly,
		history("L2", "barrier-before-the-doom"),
	},
}

// joinsEarly shares a barrier with every caller that comes while it is in progress.
var joinsEarly = []patch{
	{barrierFile, "	b.next = nil // later calls wait for markers that are not sent yet\n", ""},
	{barrierFile, "	r.err = b.pass(ctx)\n", "	r.err = b.pass(ctx)\n	b.mu.Lock()\n	b.next = nil\n	b.mu.Unlock()\n"},
}

var workerMutants = []mutant{
	{
		"nocas", "a worker's transaction compares the position with where it read",
		[]patch{{sqliteAccept, `WHERE "partition" = ? AND topic = ? AND next = ? AND leader_epoch = ?`,
			`WHERE "partition" = ? AND topic = ? AND (next = ? OR 1) AND (leader_epoch = ? OR 1)`}},
		history("L2", "worker-lived-through-a-restore"),
	},
	{
		"notruncate", "a position behind the log's end is taken back",
		[]patch{{"internal/kafka/haul.go", "	case offset == expected && epoch < p.at.LeaderEpoch && !p.lost:\n", "	case false:\n"}},
		judged,
	},
	{
		"norewind", "a worker whose position has moved reads again from there",
		[]patch{{workerFile, "it reads again from there\", \"err\", err)\n			return w.rewind(ctx)\n",
			"it reads again from there\", \"err\", err)\n			return nil\n"}},
		expectation("crash-9-restored"), // after a while it checks whether the database is still the same
	},
	{
		"nofence (pages)", "pages of an older epoch without a row do not count",
		[]patch{{decideFile, "		case p.Ref.Epoch < epoch:\n", "		case false:\n"}},
		history("L2", "page-of-an-older-epoch"),
	},
	{
		"noaheadaccept", "a page ahead of the books counts",
		[]patch{{decideFile, "		case p.Ref.Epoch < epoch:\n", "		case p.Ref.Epoch != epoch:\n"}},
		history("L2", "page-ahead-of-the-books"),
	},
	{
		"one look at L1", "the worker's transaction looks at the total once more, whatever the shard gave out",
		[]patch{{decideFile, "	case row.Open+row.Sold+row.Parked+units > row.Total:\n", "	case false:\n"}},
		history("L3", "failover-sold-twice"), // the table's own CHECK keeps L1, and no batch goes through
	},
	{
		"one look at L5", "the worker's transaction counts the buyer's units once more",
		[]patch{{decideFile, "	case row.PerUser > 0 && in.Bought[buyer]+units > int64(row.PerUser):\n", "	case false:\n"}},
		history("L5", "failover-and-the-limit"),
	},
	{
		"noparkrow", "a promise that can't be decided leaves a row",
		[]patch{{decideFile, "			out.insert(&a.Order, key)\n			in.Existing",
			"			if a.Outcome != OutcomeParked {\n				out.insert(&a.Order, key)\n			}\n			in.Existing"}},
		history("L2", "locked-row-and-a-sweep"),
	},
	{
		"no parking", "a locked row stops its item, not its partition",
		[]patch{{workerFile, "if errors.Is(err, seckill.ErrLocked) && !batch.Park {", "if errors.Is(err, seckill.ErrLocked) && batch.Park {"}},
		expectation("locked-row"),
	},
	{
		"one bad hour", "a batch that the store does not take is tried until it does",
		[]patch{{workerFile, "		w.counts.Retries.Add(1)\n", "		w.counts.Retries.Add(1)\n		batch.Pages = nil\n"}},
		history("L2", "store-is-away"),
	},
}

var deskMutants = []mutant{
	{
		"undo", "a purchase that failed after its hold gives nothing back",
		[]patch{{flightFile, "	if err != nil {\n		err = &inventory.UnknownError{Err: fmt.Errorf(\"put the page",
			"	if err != nil {\n		var ends []inventory.Settlement\n		for _, s := range f.seats {\n" +
				"			ends = append(ends, inventory.Settlement{Hold: s.claim.Hold, Kind: inventory.SettleVoid})\n		}\n" +
				"		books, ref := f.desk.stock.(seckill.Books), f.call.Ref\n" +
				"		go func() { _ = books.Settle(context.Background(), ref, ends) }()\n" +
				"		err = &inventory.UnknownError{Err: fmt.Errorf(\"put the page"},
			{flightFile, "import (\n", "import (\n	\"context\"\n"}},
		history("L2", "no-undo"),
	},
	{
		"nodeadline", "no 202 after the accept deadline",
		[]patch{
			{flightFile, "		case now >= s.answerBy:\n", "		case false:\n"},
			{buyFile, "	if elapsed(p.Arrived, time.Now()) > d.cfg.AcceptDeadline {\n", "	if false {\n"},
		},
		history("L2", "acknowledged-too-late"),
	},
	{
		"earlyopen", "a desk that cancels an order without a row makes it cancelled at once",
		[]patch{{decideFile, "	o.State, o.Units, o.Reason, o.EndedAt = OrderCancelled, UnitsVoid, ReasonBuyer, now\n	out.insert",
			"	o.State, o.Units, o.PayBy = OrderPending, UnitsOpen, now.Add(time.Hour)\n	out.insert"}},
		history("L2", "cancelled-then-restored"),
	},
	{
		"nolook", "a desk that cancels makes a row for a hold that it saw",
		[]patch{{statusFile, "	if hold.State == inventory.None {\n		return seckill.Order{}, none, errUnknownOrder\n	}\n", ""}},
		expectation("cancellation-without-a-hold"),
	},
	{
		"nofence (cancellations)", "a desk's row is made under the epoch of its hold",
		[]patch{{decideFile, "	if c.Ref.Epoch != epoch {\n", "	if false {\n"}},
		expectation("cancellation-of-an-older-epoch"),
	},
	{
		"soldoutown", "sold-out is told when every shard of the item is empty",
		[]patch{{buyFile, "	if d.elsewhere(offer, shard) {\n", "	if false {\n"}},
		history("L6", "spread-busy-until-it-moves"),
	},
	{
		"no slots", "a purchase takes its slot in the queue before its hold",
		[]patch{{buyFile, "	if err := d.queue.Reserve(); errors.Is(err, seckill.ErrNoSlot) {\n",
			"	if err := error(nil); errors.Is(err, seckill.ErrNoSlot) {\n"}},
		expectation("full-buffer"),
	},
}

var stockMutants = []mutant{
	{
		"nowithdrawfence", "a withdrawal is committed under the epoch of its hold",
		unfenced, expectation("withdrawal-across-a-rebuild"),
	},
	{
		"nomovefence", "a move is committed under the epoch of its hold",
		unfenced, history("L2", "spread-move-across-a-rebuild"),
	},
	{
		"nomovehold", "the shop holds a unit before it moves it",
		[]patch{{moveFile, "	m.stock.Hold(ctx, []*inventory.HoldCall{call})\n", "	call.Verdicts = []inventory.Verdict{inventory.Held}\n"}},
		expectation("spread-mover-crashes"),
	},
	{
		"nomovekey", "a move is committed once",
		[]patch{{sqliteStock, "	case found:\n		return false, nil\n	}\n	if err := tx.atEpoch", "	}\n	if err := tx.atEpoch"}},
		movedOnce,
	},
	{
		"nomovecheck", "each row of a spread item has a CHECK of its own",
		[]patch{{sqliteStock, "\n		AND open + sold + `+parkedOf+` <= total - ?3`", "`"},
			{sqliteSchema, "sold >= 0 AND open + sold <= total)", "sold >= 0)"}},
		history("L1", "spread-move-of-what-is-sold"),
	},
	{
		"moveearly", "the restock of a move waits for its transaction",
		[]patch{{moveFile, "	if err := m.store.MoveUnits(",
			"	there := inventory.Ref{Shard: to, Epoch: m.stock.Epoch(to)}\n" +
				"	early := inventory.Restock{Item: item, ID: hold.ID, Units: int64(units)}\n" +
				"	_, _ = m.stock.(seckill.Books).Restock(ctx, there, []inventory.Restock{early})\n" +
				"	if err := m.store.MoveUnits("}},
		history("L2", "spread-mover-crashes"),
	},
	{
		"moveparts", "one transaction moves both totals",
		[]patch{{sqliteStock, "		if err := tx.addTotal(ctx, seckill.StockKey{Item: from.Hold.Item, Shard: to}, units); err != nil {\n",
			"		if err := ctx.Err(); err != nil {\n"}},
		history("L2", "spread-moved-and-crashed"),
	},
	{
		"no mover", "units move to where buyers were told busy",
		[]patch{{moveFile, "	if len(wanted) == 0 {\n", "	if len(wanted) >= 0 {\n"}},
		expectation("spread-busy-until-it-moves"),
	},
	{
		"notouch", "a repeat renews its hold's age",
		[]patch{{modelFile, "		h.touch = s.seq\n		return inventory.HeldAgain", "		return inventory.HeldAgain"}},
		expectation("repeat-touches-its-hold"),
	},
	{
		"noepoch", "the shard refuses calls of another epoch",
		[]patch{{modelFile, "	case s.epoch > ref.Epoch:\n		err = inventory.ErrEpoch\n	case s.seq", "	case s.seq"}},
		history("L2", "gateway-of-an-older-epoch"),
	},
	{
		"nomarker", "a hold that was given back leaves a marker",
		[]patch{{modelFile, "	if i == nil {\n		return\n	}\n	units := int64(h.Quantity)\n",
			"	if i == nil {\n		return\n	}\n	if h.State == inventory.Void {\n		delete(s.holds, e.ID)\n	}\n	units := int64(h.Quantity)\n"}},
		expectation("late-confirm-meets-its-marker"),
	},
	{
		"noputback", "a confirmed hold that the shard forgot is put back",
		[]patch{{modelFile, "		case h == nil && i != nil:\n			i.available -= int64(want.Quantity)\n", "		case false:\n			i.available -= int64(want.Quantity)\n"}},
		expectation("failover-unnoticed"),
	},
	{
		"nodedupe", "a restock id is applied once in an epoch",
		[]patch{{modelFile, "	case !r.Publish && !i.restocks[r.ID]:\n", "	case !r.Publish:\n"}},
		expectation("restock-told-twice"),
	},
}

// unfenced takes units whatever the epoch of their hold was.
var unfenced = []patch{{sqliteStock,
	"	if err := tx.atEpoch(ctx, t.Ref); err != nil {\n		return false, err\n	}\n	if _, err := tx.insertWithdrawal",
	"	if _, err := tx.insertWithdrawal"}}

var luaMutants = []mutant{
	{
		"notouch (Lua)", "a repeat renews its hold's age",
		[]patch{{"inventory/lua/hold.lua", "        if touch == s.now then\n", "        if true then\n"}},
		conformance,
	},
	{
		"noepoch (Lua)", "the shard refuses calls of another epoch",
		[]patch{{"inventory/lua/shard.lua", "  elseif s.epoch > epoch then\n    return {EPOCH, s.epoch}\n", ""}},
		conformance,
	},
	{
		"nomarker (Lua)", "a hold that was given back leaves a marker",
		[]patch{{"inventory/lua/settle.lua", "    if state ~= 'V' and state ~= 'S' then\n", "    if state ~= 'S' then\n"}},
		conformance,
	},
	{
		"noputback (Lua)", "a confirmed hold that the shard forgot is put back",
		[]patch{{"inventory/lua/confirm.lua", "  elseif not u.now[item] then\n", "  elseif true then\n"}},
		conformance,
	},
	{
		"nodedupe (Lua)", "a restock id is applied once in an epoch",
		[]patch{{"inventory/lua/restock.lua", "    add = not met(ids[item] or '', id)\n", "    add = true\n"}},
		conformance,
	},
	{
		"noopencheck (Lua)", "a rebuild opens a shard only with all that it has loaded",
		[]patch{{"inventory/lua/open.lua", "  if s.items ~= tonumber(ARGV[5]) or s.names ~= tonumber(ARGV[6]) then\n", "  if false then\n"}},
		conformance,
	},
	{
		"noclosewait", "a close is replicated before it counts",
		[]patch{{"inventory/rebuild.go", "		if err := s.waitForReplicas(ctx, c); err != nil {\n", "		if err := error(nil); err != nil {\n"}},
		replicated,
	},
}

// mutantsTable is the table of all mutants.
const mutantsTable = "testdata/mutants.md"

// TestMutants takes each rule out of the code. Every run checks that the patches still apply: a
// text that the code doesn't have any more is an error. With -sim.mutants it compiles the code
// without the rule (go test -overlay). A test that passes with the rule must then fail.
func TestMutants(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	chosen := strings.Split(*mutantsFlag, ",")
	passed := make(map[string]bool)
	var table, ran strings.Builder
	table.WriteString("| without | the rule | fails | law |\n| --- | --- | --- | --- |\n")
	for _, m := range mutants() {
		table.WriteString(m.row() + "\n")
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			overlay := m.overlay(t, root)
			all := *mutantsFlag == "all"
			for _, name := range chosen {
				all = all || name == m.name
			}
			if !all {
				return
			}
			m.caught.passes(t, root, passed)
			out, ok := m.caught.run(t, root, "-overlay", overlay)
			if ok || !strings.Contains(out, "--- FAIL: "+m.caught.test) {
				t.Fatalf("without the rule, %s does not fail:\n%s", m.caught.test, out)
			}
			broken := brokenLaw.FindString(out)
			if !strings.HasPrefix(broken, "BROKEN "+m.caught.law) && m.caught.law != "" {
				t.Errorf("%q, want %s broken:\n%s", broken, m.caught.law, out)
			}
			ran.WriteString("\n" + m.row() + " " + broken)
		})
	}
	if ran.Len() > 0 {
		t.Log(ran.String())
	}
	checkTable(t, table.String())
}

// checkTable compares the table with the stored one, which docs/laws.md links to.
func checkTable(t *testing.T, table string) {
	t.Helper()
	if *tableFlag {
		if err := os.WriteFile(mutantsTable, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(mutantsTable)
	if err != nil || string(kept) != table {
		t.Errorf("%s is not the table of the mutants (%v): write it anew with -sim.table", mutantsTable, err)
	}
}

// row is the mutant's line of the table.
func (m *mutant) row() string {
	test := "`" + strings.TrimPrefix(m.caught.pkg, "./") + "`: `" + m.caught.test + "`"
	return "| `" + m.name + "` | " + m.rule + " | " + test + " | " + m.caught.law + " |"
}

// brokenLaw returns the law that the simulator reports as broken.
var brokenLaw = regexp.MustCompile(`BROKEN .{0,100}`)

// passes demands that the whole test passes with all rules in force, once for all mutants.
func (p proof) passes(t *testing.T, root string, passed map[string]bool) {
	t.Helper()
	p.test, _, _ = strings.Cut(p.test, "/")
	name := p.pkg + p.test + strings.Join(p.args, " ")
	if passed[name] {
		return
	}
	if out, ok := p.run(t, root); !ok {
		t.Fatalf("with all rules in force the test fails:\n%s", out)
	}
	passed[name] = true
}

// run runs the test and reports whether it passed.
func (p proof) run(t *testing.T, root string, flags ...string) (out string, ok bool) {
	t.Helper()
	run := "^" + strings.ReplaceAll(p.test, "/", "$/^") + "$"
	args := append(append([]string{"test", "-run", run}, flags...), p.pkg)
	cmd := exec.CommandContext(t.Context(), "go", append(args, p.args...)...)
	cmd.Dir = root
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

// overlay writes the changed files and the list that go build takes.
func (m *mutant) overlay(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	texts := make(map[string]string)
	for _, p := range m.patches {
		if _, ok := texts[p.file]; !ok {
			b, err := os.ReadFile(filepath.Join(root, p.file))
			if err != nil {
				t.Fatal(err)
			}
			texts[p.file] = string(b)
		}
		if n := strings.Count(texts[p.file], p.old); n != 1 {
			t.Fatalf("%s has the text that the mutant changes %d times:\n%s", p.file, n, p.old)
		}
		texts[p.file] = strings.Replace(texts[p.file], p.old, p.new, 1)
	}
	replace := make(map[string]string)
	for file, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, file)] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
