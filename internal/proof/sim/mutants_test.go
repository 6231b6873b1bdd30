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

var mutantsFlag = flag.String("sim.mutants", "", "take rules out of the code and demand that a test fails: all, or one by name")

// mutant is a rule of the protocol, taken out of the code. The names are internal/proof/protocol's where it has the rule too.
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

// history is the proof that a scenario ends in a broken law. What it expects on the way is not looked at.
func history(law, scenario string) proof {
	return proof{law, "./internal/proof/sim", "TestScenarios/" + scenario, []string{"-sim.laws"}}
}

// expectation is the proof that a scenario does not go as it says. That is all there is to see where the audit heals what is broken.
func expectation(scenario string) proof {
	return proof{"", "./internal/proof/sim", "TestScenarios/" + scenario, nil}
}

// conformance holds the Lua scripts against the model, with which the scenarios run.
var conformance = proof{"", "./inventory", "TestMiniredis", nil}

const (
	buyFile      = "seckill/buy.go"
	statusFile   = "seckill/status.go"
	sweepFile    = "seckill/sweep.go"
	rebuildFile  = "seckill/rebuild.go"
	workerFile   = "seckill/worker.go"
	acceptFile   = "seckill/accept.go"
	modelFile    = "internal/proof/stocktest/model.go"
	sqliteAccept = "internal/sqlite/accept.go"
	sqliteStock  = "internal/sqlite/stock.go"
)

// mutants are all rules.
var mutants = []mutant{
	{
		"nodoom", "the sweeper marks a hold before it decides it, so that a repeat of the key promises nothing meanwhile",
		[]patch{{sweepFile, "	states, err := s.stock.Doom(ctx, ref, n.seq, ids)\n",
			"	states, err := make([]inventory.State, len(ids)), error(nil)\n" +
				"	for i := range states {\n		states[i] = inventory.Doomed\n	}\n"}},
		history("L2", "repeat-of-a-doomed-key"),
	},
	{
		"notouch", "a repeat of a purchase renews its hold's age",
		[]patch{{modelFile, "		h.touch = s.seq\n		return inventory.HeldAgain", "		return inventory.HeldAgain"}},
		history("L2", "repeat-touches-its-hold"),
	},
	{
		"notouch (Lua)", "a repeat of a purchase renews its hold's age",
		[]patch{{"inventory/lua/hold.lua", "if touch ~= s.now then", "if false then"}},
		conformance,
	},
	{
		"nodrain (sweep)", "the sweeper decides when the workers have passed what was put before the doom",
		[]patch{{sweepFile, "	if err := drain(ctx, s.queue, end); err != nil {\n		return confirmed, err\n	}\n", "	_ = end\n"}},
		history("L2", "sweep-waits-after-the-doom"),
	},
	{
		"nodrain (rebuild)", "a rebuild reads its snapshot when the workers have passed what was put before the close",
		[]patch{{rebuildFile, "	return drain(ctx, r.queue, end)\n", "	_ = end\n	return nil\n"}},
		history("L2", "rebuild-waits-for-the-workers"),
	},
	{
		"nowait", "a rebuild waits until no older attempt may answer 202",
		[]patch{{rebuildFile, "if !dead && !pauseFor(ctx, r.cfg.WaitOut) {", "if !dead && !pauseFor(ctx, 0) {"}},
		history("L2", "rebuild-waits-out-the-promises"),
	},
	{
		"nodeadline", "no 202 after the accept deadline",
		[]patch{
			{buyFile, "endingAt(ctx, p.Arrived.Add(d.cfg.AcceptDeadline))", "context.WithCancel(ctx)"},
			{buyFile, "if err == nil && time.Since(arrived) > d.cfg.AcceptDeadline {", "if false {"},
		},
		history("L2", "acknowledged-too-late"),
	},
	{
		"nofence (records)", "workers skip records of older epochs that have no row",
		[]patch{{acceptFile, "if r.Grant.Epoch < item.Epoch {", "if false {"}},
		history("L2", "record-of-an-older-epoch"),
	},
	{
		"nofence (tombstones)", "a sweeper of an older epoch inserts nothing",
		[]patch{{sqliteAccept, "		item, err := tx.ledgerAt(ctx, ref)\n", "		item, err := tx.ledger(ctx, ref.Item)\n"}},
		history("L2", "tombstone-of-an-older-epoch"),
	},
	{
		"noepoch", "a shard takes calls of its own epoch only",
		[]patch{{modelFile, "	case s.epoch > ref.Epoch:\n		err = inventory.ErrEpoch\n	case s.seq", "	case s.seq"}},
		history("L2", "gateway-of-an-older-epoch"),
	},
	{
		"noepoch (Lua)", "a shard takes calls of its own epoch only",
		[]patch{{"inventory/lua/shard.lua", "  elseif s.epoch > epoch then\n    return {EPOCH, s.epoch}\n", ""}},
		conformance,
	},
	{
		"nomarker", "a hold that has ended leaves a marker",
		[]patch{{modelFile, "	h.State = marker\n}", "	h.State = marker\n	if marker == inventory.Void {\n		delete(s.holds, e.ID)\n	}\n}"}},
		history("L3", "late-confirm-meets-its-marker"),
	},
	{
		"undo", "a purchase whose put failed gives nothing back",
		[]patch{{buyFile, "	if err := d.put(deadline, &record, p.Arrived); err != nil {\n",
			"	if err := d.put(deadline, &record, p.Arrived); err != nil {\n" +
				"		_ = d.stock.Settle(ctx, offer.Ref(), []inventory.Settlement{{Hold: hold, Kind: inventory.SettleVoid}})\n"}},
		history("L2", "no-undo"),
	},
	{
		"noabsorb", "a rebuild takes out of the outbox what its snapshot counts",
		[]patch{{sqliteStock, "	if _, err := tx.exec(ctx, \"DELETE FROM outbox WHERE item = ? AND stock = 1\", int64(ref.Item)); " +
			"err != nil {\n		return err\n	}\n", ""}},
		history("L3", "restock-during-a-rebuild"),
	},
	{
		"nowdfence", "a withdrawal commits only in the epoch of its hold",
		[]patch{{sqliteStock, "		item, err := tx.ledgerAt(ctx, ref)\n", "		item, err := tx.ledger(ctx, ref.Item)\n"}},
		history("L3", "withdrawal-across-a-rebuild"),
	},
	{
		"nolook", "a desk that cancels makes a row for a hold that it saw",
		[]patch{{statusFile, "	if hold.State == inventory.None {\n		return Order{}, errUnknownOrder\n	}\n", ""}},
		expectation("cancellation-without-a-hold"),
	},
	{
		"norsmark", "a shard applies a restock once",
		[]patch{{modelFile, "		s.restocks[id] = true\n", ""}},
		history("L3", "restock-told-twice"),
	},
	{
		"noputback", "a confirmed hold that the shard forgot is put back",
		[]patch{{modelFile, "			s.available -= int64(want.Quantity)\n			s.held += int64(want.Quantity)\n" +
			"			s.holds[want.ID] = &hold{inventory.Entry{Hold: want, State: inventory.Ordered}, s.seq}\n", ""}},
		expectation("failover-unnoticed"),
	},
	{
		"hold before slot", "a purchase takes its slot in the queue before its hold",
		[]patch{
			{buyFile, "	if err := d.queue.Reserve(); err != nil {\n		return Receipt{}, notReserved(err)\n	}\n", ""},
			{buyFile, "		d.queue.Release()\n		return d.notHeld(ctx, id, grant, err)\n	}\n",
				"		return d.notHeld(ctx, id, grant, err)\n	}\n	if err := d.queue.Reserve(); err != nil {\n		return Receipt{}, notReserved(err)\n	}\n"},
		},
		history("L4", "full-buffer"),
	},
	{
		"offsets before rows", "a worker commits its offsets when the rows are committed",
		[]patch{{workerFile, "	accepted, err := w.accept(ctx, records)\n",
			"	if err := w.queue.Commit(ctx); err != nil {\n		return err\n	}\n	accepted, err := w.accept(ctx, records)\n"}},
		history("L2", "crash-5-before-the-row"),
	},
	{
		"one look at L1", "the worker's transaction looks at the total once more, whatever the shard gave out",
		[]patch{{acceptFile, "	case item.Open+item.Sold+units > item.Total:\n", "	case false:\n"}},
		history("L2", "failover-sold-twice"),
	},
	{
		"noopencheck", "a rebuild opens a shard only with all that it has loaded",
		[]patch{{modelFile, "		if int64(len(s.holds)) != known {\n			return inventory.ErrLost\n		}\n", ""}},
		expectation("failover-during-a-rebuild"),
	},
	{
		"noopencheck (Lua)", "a rebuild opens a shard only with all that it has loaded",
		[]patch{{"inventory/lua/open.lua", "if s.known ~= tonumber(ARGV[8]) then", "if false then"}},
		conformance,
	},
	{
		"nomarker (Lua)", "a hold that has ended leaves a marker",
		[]patch{{"inventory/lua/settle.lua", "  holds[id] = kind .. quantity .. ' ' .. touch .. ' ' .. buyer\n",
			"  if kind == 'V' then\n    redis.call('HDEL', HOLDS, id)\n    holds[id] = false\n    return\n  end\n" +
				"  holds[id] = kind .. quantity .. ' ' .. touch .. ' ' .. buyer\n"}},
		conformance,
	},
	{
		"norsmark (Lua)", "a shard applies a restock once",
		[]patch{{"inventory/lua/restock.lua", "if redis.call('HSETNX', RESTOCKS, ARGV[5], units) == 1 then", "if true then"}},
		conformance,
	},
	{
		"noaudit", "a rebuilder compares shards with the books, where nothing else shows a loss",
		[]patch{{rebuildFile, "		if err := r.auditSale(ctx, offer.Sale, now); err != nil", "		if err := error(nil); err != nil"}},
		history("L3", "failover-forgets-a-settlement"),
	},
	{
		"noend", "a sweep ends where nothing but the relay can go on",
		[]patch{{sweepFile, "		if exists[i] || !IsWithdrawal(doomed[i].ID) {\n", "		if true {\n"}},
		history("L8", "withdrawal-crashes"),
	},
	{
		"one bad hour", "a record is given up when the store refuses it and takes others",
		[]patch{{workerFile, "if accepted, err := w.store.Accept(ctx, []Record{batch[0].record}); err == nil {",
			"if accepted, err := []Acceptance(nil), cause; err == nil {"}},
		history("L2", "store-takes-no-writes"),
	},
	{
		"noputback (Lua)", "a confirmed hold that the shard forgot is put back",
		[]patch{{"inventory/lua/confirm.lua", "  if not holds[id] then\n", "  if not holds[id] then\n  elseif false then\n"}},
		conformance,
	},
	{
		"noclosewait", "a rebuild goes on when the replicas have its closed mark",
		[]patch{{"inventory/rebuild.go", "		if err := s.waitForReplicas(ctx, c); err != nil {\n", "		if err := error(nil); err != nil {\n"}},
		proof{"", "./inventory", "TestCloseAndOpenWaitForReplicas", nil},
	},
}

// TestMutants takes each rule out of the code. In every run it makes sure that it still could: a text that the code doesn't have
// any more is an error. With -sim.mutants it compiles the code without the rule (go test -overlay), and a test must fail that
// passes with it. docs/laws.md shows the table.
func TestMutants(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "laws.md"))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			if !strings.Contains(string(page), m.row()) {
				t.Errorf("docs/laws.md does not have the line\n%s", m.row())
			}
			overlay := m.overlay(t, root)
			if *mutantsFlag != "all" && *mutantsFlag != m.name {
				return
			}
			if out, ok := m.caught.run(t, root); !ok {
				t.Fatalf("with the rule in force the test fails:\n%s", out)
			}
			out, ok := m.caught.run(t, root, "-overlay", overlay)
			if ok || !strings.Contains(out, "--- FAIL: "+m.caught.test) {
				t.Fatalf("without the rule, %s does not fail:\n%s", m.caught.test, out)
			}
			broken := brokenLaw.FindString(out)
			if !strings.HasPrefix(broken, "BROKEN "+m.caught.law) && m.caught.law != "" {
				t.Errorf("%q, want %s broken", broken, m.caught.law)
			}
			table.WriteString("\n" + m.row() + " " + broken)
		})
	}
	if table.Len() > 0 {
		t.Log(table.String())
	}
}

// row is the mutant's line of the table.
func (m *mutant) row() string {
	test := "`" + strings.TrimPrefix(m.caught.pkg, "./") + "`: `" + m.caught.test + "`"
	return "| `" + m.name + "` | " + m.rule + " | " + test + " | " + m.caught.law + " |"
}

// brokenLaw is what the simulator says of it.
var brokenLaw = regexp.MustCompile(`BROKEN .{0,100}`)

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
