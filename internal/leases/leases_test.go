package leases

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/limiter"
)

var seedFlag = flag.Uint64("leases.seed", 0, "run this seed of TestScript_AgreesWithTheModel instead of 1 to 8")

func TestMain(m *testing.M) { goleak.VerifyTestMain(servers.Main{M: m}) }

// fakeStock is a stock on miniredis, whose clock the test sets.
func fakeStock(t *testing.T) (*inventory.Stock, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return stockOn(t, m.Addr(), 30*time.Second), m // it is slow
}

func stockOn(t testing.TB, addr string, timeout time.Duration) *inventory.Stock {
	t.Helper()
	var dialer net.Dialer
	stock, err := inventory.Open(t.Context(), inventory.Config{
		Addrs: []string{addr}, CallTimeout: timeout,
		Dial: func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stock.Stop)
	return stock
}

// model is a bucket with exact tokens.
type model struct {
	num, den, window int64
	tokens           *big.Rat // at; what is above a full bucket is its time since then
	at               int64    // µs of the server
	count            int64
}

func rat(a, b int64) *big.Rat { return big.NewRat(a, b) }

func (m *model) full() *big.Rat {
	return new(big.Rat).Mul(rat(m.window, 1), rat(m.den, m.num))
}

// flow lets time pass until now. When the clock goes back, tokens of that time flow a second time.
func (m *model) flow(now int64) (emptied bool) {
	m.tokens = new(big.Rat).Add(m.tokens, new(big.Rat).Mul(rat(now-m.at, 1), rat(m.den, m.num)))
	m.at = now
	if emptied = m.tokens.Sign() < 0; emptied {
		m.tokens = new(big.Rat)
	}
	return emptied
}

// answer compares the script's grant with the model's tokens, and takes it. The grant is within one
// token of them, and above them only by what rounding to microseconds allows.
func (m *model) answer(a *limiter.Ask, now int64) error {
	edited := m.flow(now)
	if full := m.full(); m.tokens.Cmp(full) > 0 && (m.num != a.Num || m.den != a.Den || m.window != a.Window) {
		m.tokens = full
	}
	if m.num != a.Num || m.den != a.Den || m.window != a.Window {
		m.num, m.den, m.window, edited = a.Num, a.Den, a.Window, true
		m.tokens = new(big.Rat).SetInt(new(big.Int).Div(m.tokens.Num(), m.tokens.Denom())) // whole ones are kept
		if f := m.full(); m.tokens.Cmp(f) > 0 {
			m.tokens = f
		}
	}
	before := m.tokens
	if m.tokens.Cmp(m.full()) >= 0 {
		m.tokens = new(big.Rat).Sub(m.full(), new(big.Rat).Mul(rat(min(a.Floor, m.window), 1), rat(m.den, m.num)))
	}
	m.tokens = new(big.Rat).Add(m.tokens, rat(a.Back, 1))
	if f := m.full(); m.tokens.Cmp(f) > 0 {
		m.tokens = f
	}
	have, _ := m.tokens.Float64()
	slack := 3*float64(m.den)/float64(m.num) + 1e-6 // microseconds that were rounded, as tokens
	if got := float64(a.Granted); got > have+slack || got < min(float64(a.Want), have-slack)-1 {
		return fmt.Errorf("granted %d of %d wanted, the model has %.3f", a.Granted, a.Want, have)
	}
	m.tokens = new(big.Rat).Sub(m.tokens, rat(a.Granted, 1))
	if m.tokens.Sign() < 0 {
		m.tokens = new(big.Rat)
	}
	m.count += a.Granted - a.Back
	left, _ := m.tokens.Float64()
	if room := float64(a.Room) * float64(m.den) / float64(m.num); room > left+slack || room < left-1-slack {
		return fmt.Errorf("room for %.3f tokens, the model has %.3f", room, left)
	}
	m.tokens = new(big.Rat).Mul(rat(a.Room, 1), rat(m.den, m.num)) // what was rounded
	if a.Granted == 0 && a.Back == 0 && !edited {                  // nothing is written, and the floor is not kept
		m.tokens = before
	}
	if a.Count != m.count {
		return fmt.Errorf("count is %d, want %d", a.Count, m.count)
	}
	return nil
}

// TestScript_AgreesWithTheModel sends random requests for tokens of a few buckets. Meanwhile their
// terms are edited, and the server's clock creeps, jumps and goes back.
func TestScript_AgreesWithTheModel(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = seeds[:0]
		for seed := range uint64(8) {
			seeds = append(seeds, seed+1)
		}
	}
	for _, seed := range seeds {
		if err := runModel(t, rand.New(rand.NewPCG(seed, 13))); err != nil {
			t.Fatalf("%v\nrepeat with: go test ./internal/leases -run TestScript -leases.seed %d", err, seed)
		}
	}
}

func runModel(t *testing.T, r *rand.Rand) error {
	stock, server := fakeStock(t)
	pool := New(stock)
	now := time.Unix(1_800_000_000, 0)
	terms := func() limiter.Ask {
		rates := [][2]int64{{2_500, 1}, {1e9, 400_000}, {1e9, 137_250}, {500_000, 1}, {1e9, 2_000_000_000}, {1e11, 1}}
		pick := rates[r.IntN(len(rates))]
		burst := []int64{1, 3, 20, 400}[r.IntN(4)]
		if pick[0] == 1e11 {
			burst = 1
		}
		return limiter.Ask{Num: pick[0], Den: pick[1], Window: (burst*pick[0] + pick[1] - 1) / pick[1]}
	}
	models := make([]*model, 5)
	current := make([]limiter.Ask, len(models))
	for i := range current {
		current[i] = terms()
	}
	for step := range 150 {
		switch r.IntN(20) {
		case 0:
			now = now.Add(time.Duration(r.Int64N(int64(time.Minute))))
		case 1:
			now = now.Add(-time.Duration(r.Int64N(int64(time.Minute))))
		case 2:
			current[r.IntN(len(current))] = terms()
		default:
			now = now.Add(time.Duration(r.Int64N(int64(30 * time.Millisecond))))
		}
		server.SetTime(now)
		var asks []limiter.Ask
		var whose []int
		for i := range models {
			if r.IntN(3) == 0 {
				continue
			}
			a := current[i]
			a.Key, a.Want = fmt.Sprint("caller:m/", i), r.Int64N(30)
			if r.IntN(4) == 0 {
				a.Back = r.Int64N(5)
			}
			if r.IntN(4) == 0 {
				a.Floor = r.Int64N(a.Window + 10)
			}
			asks, whose = append(asks, a), append(whose, i)
		}
		if err := pool.Exchange(t.Context(), asks); err != nil {
			return err
		}
		for j := range asks {
			a := &asks[j]
			m := models[whose[j]]
			if m == nil {
				m = &model{num: a.Num, den: a.Den, window: a.Window, tokens: new(big.Rat)} // full since long ago
				models[whose[j]] = m
			}
			if err := m.answer(a, now.UnixMicro()); err != nil {
				return fmt.Errorf("step %d, %+v: %w", step, *a, err)
			}
		}
	}
	return nil
}

// TestExchange_ManyKeys asks for more keys than fit into one call.
func TestExchange_ManyKeys(t *testing.T) {
	stock, _ := fakeStock(t)
	asks := make([]limiter.Ask, groups*maxKeys+100)
	for i := range asks {
		asks[i] = limiter.Ask{Key: fmt.Sprint("user:m/", i), Want: int64(i%3) + 1, Num: 1000, Den: 1, Window: 2000}
	}
	if err := New(stock).Exchange(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	for i := range asks {
		if a := &asks[i]; a.Granted != min(a.Want, 2) || a.Count != a.Granted || a.Room != 2000-1000*a.Granted {
			t.Fatalf("ask %d: %+v", i, *a)
		}
	}
}

// TestScript_ReadsNoRubbish: a value in another form is ignored.
func TestScript_ReadsNoRubbish(t *testing.T) {
	stock, server := fakeStock(t)
	key := fmt.Sprintf("ps:limit{%d}:global:/", groupOf("global:/"))
	for _, value := range []string{"", "x", "1 2 3", "-1 0 1 1 1", "1 2 3 4 5 6", "1 2 3 4 5", "1 2 3 4 5 6 7"} {
		server.Set(key, value)
		asks := []limiter.Ask{{Key: "global:/", Want: 5, Num: 1000, Den: 1, Window: 3000}}
		if err := New(stock).Exchange(t.Context(), asks); err != nil || asks[0].Granted != 3 {
			t.Errorf("%q: %+v, %v", value, asks[0], err)
		}
	}
}

// TestShare: a report lasts for ten seconds, or until it is removed.
func TestShare(t *testing.T) {
	stock, server := fakeStock(t)
	pool := New(stock)
	now := time.Unix(1_800_000_000, 0)
	for _, step := range []struct {
		after      time.Duration
		node, text string
		want       string
	}{
		{0, "b", "two words", "[{b 0s two words}]"},
		{time.Second, "a", "1", "[{a 0s 1} {b 1s two words}]"},
		{8 * time.Second, "", "", "[{a 8s 1} {b 9s two words}]"},
		{2 * time.Second, "", "", "[{a 10s 1}]"},
		{-time.Minute, "b", "old clock", "[{b 0s old clock}]"},
		{0, "b", "", "[]"},
	} {
		now = now.Add(step.after)
		server.SetTime(now)
		got, err := pool.Share(t.Context(), Board{"limit-reports", 10 * time.Second}, step.node, step.text)
		slices.SortFunc(got, func(a, b Report) int { return strings.Compare(a.Node, b.Node) })
		if err != nil || fmt.Sprint(got) != step.want {
			t.Errorf("%v, %v, want %s", got, err, step.want)
		}
	}
}

// TestScript_Quota: a bucket grants its quota once per day of its zone, by the server's clock, even
// if that jumps. Returned tokens may be granted again, and an edit forgets nothing.
func TestScript_Quota(t *testing.T) {
	stock, server := fakeStock(t)
	pool := New(stock)
	const hour = time.Hour
	midnight := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		at           time.Duration // since midnight UTC
		back, want   int64
		quota        int64
		ahead        time.Duration
		granted, own int64 // own: what is left
	}{
		{hour, 0, 7, 10, 0, 7, 3},
		{2 * hour, 0, 7, 10, 0, 3, 0},
		{3 * hour, 0, 7, 10, 0, 0, 0},
		{3 * hour, 2, 0, 10, 0, 0, 2},
		{3 * hour, 0, 7, 10, 0, 2, 0},
		{4 * hour, 0, 7, 15, 0, 5, 0},  // raised
		{5 * hour, 0, 7, 8, 0, 0, 0},   // lowered below what was granted
		{6 * hour, 0, 7, 0, 0, 7, 0},   // taken away: no bound
		{7 * hour, 0, 7, 30, 0, 7, 1},  // restored: the whole day counts
		{23 * hour, 5, 0, 30, 0, 0, 6}, // of a lease
		{24*hour - 1, 0, 9, 30, 0, 6, 0},
		{24 * hour, 3, 9, 10, 0, 9, 1}, // the next day; returned tokens don't make the count negative
		{23 * hour, 0, 9, 10, 0, 1, 0}, // the clock goes back: still that day
		{47 * hour, 0, 9, 10, 0, 0, 0},
		{90 * hour, 0, 9, 10, 0, 9, 1},                // days later
		{40 * hour, 0, 9, 10, 0, 9, 1},                // far back: a new day
		{40*hour - 1, 0, 9, 10, 8 * hour, 1, 0},       // another zone, in which it is today
		{40 * hour, 0, 9, 10, 8 * hour, 9, 1},         // and now tomorrow
		{64*hour - 1, 0, 9, 10, 8 * hour, 1, 0},       // until 23:59 there
		{50 * hour, 0, 9, 10, -5 * hour, 0, 0},        // a zone behind stays on the later day
		{5*hour + 96*hour, 0, 9, 10, -5 * hour, 9, 1}, // its midnight
	} {
		server.SetTime(midnight.Add(step.at - time.Second)) // the bucket fills, where the clock went back
		fill := []limiter.Ask{{Key: "caller:m/web", Num: 1000, Den: 1, Window: 100_000, Quota: step.quota, Offset: step.ahead.Microseconds()}}
		if err := pool.Exchange(t.Context(), fill); err != nil {
			t.Fatal(err)
		}
		server.SetTime(midnight.Add(step.at))
		asks := []limiter.Ask{{
			Key: "caller:m/web", Back: step.back, Want: step.want, Num: 1000, Den: 1, Window: 100_000, Quota: step.quota, Offset: step.ahead.Microseconds(),
		}}
		if err := pool.Exchange(t.Context(), asks); err != nil {
			t.Fatal(err)
		}
		if a := asks[0]; a.Granted != step.granted || a.Left != step.own {
			t.Errorf("step %d, %+v: granted %d, %d left", i, step, a.Granted, a.Left)
		}
	}
	key := fmt.Sprintf("ps:limit{%d}:caller:m/web", groupOf("caller:m/web"))
	if ttl := server.TTL(key); ttl < 23*hour || ttl > 25*hour {
		t.Errorf("a counted day is kept for %v", ttl)
	}
}

// TestScript_ChargesWhatIsOwed: a bucket of 10 per second and 5 at once is charged with what nodes
// let pass alone: once, down below empty by a second at most, and not with what it had no room for
// in the same time.
func TestScript_ChargesWhatIsOwed(t *testing.T) {
	const second = 1_000_000
	noon := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	type step struct {
		at                  time.Duration
		want, owed          int64
		span, depth, floor  int64
		node                uint32
		number              int64
		granted, left, used int64 // left: microseconds
	}
	for name, steps := range map[string][]step{
		"once, whoever tells it again": {
			{owed: 2, span: 100_000, node: 1, number: 7, left: -200_000, used: 2},
			{owed: 2, span: 100_000, node: 1, number: 7, left: -200_000, used: 2},
			{owed: 9, span: 100_000, node: 1, number: 6, left: -200_000, used: 2}, // of an exchange that was delayed
			{owed: 1, span: 100_000, node: 2, number: 1, left: -300_000, used: 3},
			{owed: 1, span: 100_000, node: 1, number: 8, left: -400_000, used: 4},
			{owed: 1, span: 100_000, node: 2, number: 1, left: -400_000, used: 4},
			{at: 400 * time.Millisecond, want: 1, granted: 0, left: 0, used: 4},
			{at: 500 * time.Millisecond, want: 5, granted: 1, left: 0, used: 5},
			{at: 30 * time.Second, owed: 1, span: 30 * second, node: 1, number: 8, left: 500_000, used: 5},
		},
		"by a second at most": {
			{owed: 8, span: 900_000, node: 1, number: 1, left: -800_000, used: 8},
			{owed: 8, span: 900_000, node: 2, number: 1, left: -second, used: 16},
		},
		"what is older than a second leaves it empty": {
			{at: 300 * time.Millisecond, want: 1, granted: 1, left: 200_000, used: 1},
			{at: 300 * time.Millisecond, owed: 40, span: 8*second - 1, node: 1, number: 1, left: -500_000, used: 41},
		},
		"what is given to a full bucket is taken from it": {
			{at: 20 * time.Second, owed: 3, span: 150_000, depth: 300_000 - 150_000, node: 1, number: 1, left: 350_000, used: 3},
		},
		"three nodes were alone for 20 s, as long as the server": {
			{at: 20 * time.Second, owed: 67, span: 20 * second, depth: 100_000, floor: 500_000, node: 1, number: 1, left: 0, used: 67},
			{at: 21 * time.Second, owed: 70, span: 21 * second, depth: 100_000, floor: 500_000, node: 2, number: 1, left: 0, used: 137},
			{at: 21 * time.Second, owed: 70, span: 21 * second, depth: 100_000, floor: 500_000, node: 3, number: 1, left: -9_523, used: 207},
		},
		"the clock goes back": {
			{owed: 9, span: 100_000, node: 1, number: 1, left: -900_000, used: 9},
			{at: -time.Hour, left: 0, used: 9},
			{at: 100*time.Millisecond - time.Hour, want: 3, granted: 1, left: 0, used: 10},
		},
	} {
		t.Run(name, func(t *testing.T) {
			stock, server := fakeStock(t)
			ask := limiter.Ask{Key: "caller:m/web", Num: 100_000, Den: 1, Window: 500_000, Quota: 1000, Deep: second}
			exchange := func(at time.Duration) limiter.Ask {
				t.Helper()
				server.SetTime(noon.Add(at))
				asks := []limiter.Ask{ask}
				if err := New(stock).Exchange(t.Context(), asks); err != nil {
					t.Fatal(err)
				}
				return asks[0]
			}
			var before limiter.Ask // others have come all the time, and there is nothing left
			for at := -10 * time.Second; at <= 0; at += 100 * time.Millisecond {
				ask.Want = 5
				before = exchange(at)
			}
			for i, s := range steps {
				ask.Want, ask.Floor = s.want, s.floor
				ask.Owed, ask.Span, ask.Depth, ask.Debt = s.owed, s.span, s.depth, limiter.Debt{Node: s.node, Number: s.number}
				a := exchange(s.at)
				used, count := a.Usage.Used-before.Usage.Used, a.Count-before.Count
				if a.Granted != s.granted || a.Room != s.left || used != s.used || count != s.used {
					t.Errorf("step %d: granted %d, %d µs left, count %d, used %d; want %d, %d, %d", i, a.Granted, a.Room, count, used,
						s.granted, s.left, s.used)
				}
			}
		})
	}
}

// TestScript_KnowsALimitedNumberOfDebtors: a bucket's value stays small, whoever owes it something.
func TestScript_KnowsALimitedNumberOfDebtors(t *testing.T) {
	stock, server := fakeStock(t)
	server.SetTime(time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC))
	for node := range uint32(100) {
		asks := []limiter.Ask{{
			Key: "caller:m/web", Num: 1, Den: 1, Window: 1_000_000, Owed: 1, Deep: 1_000_000, Debt: limiter.Debt{Node: 4e9 + node, Number: 1 << 52},
		}}
		if err := New(stock).Exchange(t.Context(), asks); err != nil || asks[0].Count != int64(node)+1 {
			t.Fatalf("%+v, %v", asks[0], err)
		}
	}
	key := fmt.Sprintf("ps:limit{%d}:caller:m/web", groupOf("caller:m/web"))
	if value, err := server.Get(key); err != nil || len(value) > 700 || strings.Count(value, ":") != 16 {
		t.Errorf("%s, %v", value, err)
	}
}

// TestScript_TakesWhatACallerKnows: where the server has lost some of a day, it goes on with what
// the caller knew of that day; it never forgets what came back for the sake of an older answer.
func TestScript_TakesWhatACallerKnows(t *testing.T) {
	stock, server := fakeStock(t)
	pool := New(stock)
	server.SetTime(time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC))
	key := fmt.Sprintf("ps:limit{%d}:caller:m/web", groupOf("caller:m/web"))
	exchange := func(back, want int64, known limiter.DayUse) limiter.Ask {
		t.Helper()
		asks := []limiter.Ask{{Key: "caller:m/web", Back: back, Want: want, Num: 1, Den: 1, Window: 1_000_000, Quota: 50, Known: known}}
		if err := pool.Exchange(t.Context(), asks); err != nil {
			t.Fatal(err)
		}
		return asks[0]
	}
	none := limiter.DayUse{}
	exchange(0, 10, none)
	replica, err := server.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	first := exchange(0, 20, none)
	day := first.Usage.Day
	if want := (limiter.DayUse{Day: day, Granted: 30, Used: 30}); first.Usage != want || day == 0 {
		t.Fatalf("%+v", first)
	}
	second := exchange(5, 0, none)
	if want := (limiter.DayUse{Day: day, Granted: 30, Used: 25}); second.Usage != want {
		t.Fatalf("after five came back: %+v", second)
	}
	if a := exchange(0, 0, first.Usage); a.Usage != second.Usage {
		t.Errorf("an older answer takes back what came back: %+v", a)
	}
	for name, lose := range map[string]func(){
		"a failover": func() { server.Set(key, replica) }, "a flush": func() { server.Del(key) },
	} {
		lose()
		if a := exchange(0, 0, second.Usage); a.Usage != second.Usage || a.Left != 25 {
			t.Errorf("after %s: %+v, want %+v", name, a, second.Usage)
		}
	}
	server.Set(key, replica)
	yesterday := second.Usage
	yesterday.Day--
	if a := exchange(0, 0, yesterday); a.Left != 40 {
		t.Errorf("what is known of another day counts: %+v", a)
	}
}

// TestKept_RemembersDays: the use of a day is known after a restart with an empty Redis, also when
// a file was half written.
func TestKept_RemembersDays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	start := func() (*Kept, func(key string, want int64) limiter.Ask) {
		t.Helper()
		stock, server := fakeStock(t)
		server.SetTime(time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC))
		pool, err := Keep(New(stock), path)
		if err != nil {
			t.Fatal(err)
		}
		return pool, func(key string, want int64) limiter.Ask {
			t.Helper()
			asks := []limiter.Ask{{Key: key, Want: want, Num: 1, Den: 1, Window: 1_000_000, Quota: 50}, {Key: "other", Want: 1, Num: 1, Den: 1, Window: 9}}
			if err := pool.Exchange(t.Context(), asks); err != nil {
				t.Fatal(err)
			}
			return asks[0]
		}
	}
	pool, take := start()
	if a := take("a", 30); a.Granted != 30 {
		t.Fatalf("%+v", a)
	}
	take("b", 1)
	for range 2 { // the second has nothing to write
		if err := pool.Save(); err != nil {
			t.Fatal(err)
		}
	}
	if n := pool.Len(); n != 2 {
		t.Errorf("%d keys are kept", n)
	}
	pool, take = start()
	if a := take("a", 30); a.Granted != 20 || a.Left != 0 {
		t.Errorf("after a restart: %+v", a)
	}
	for i := range MaxKept + 10 {
		pool.days[fmt.Sprint("k", i)] = limiter.DayUse{Day: 1, Granted: 1, Used: 1}
	}
	take("late", 1) // those of past days are dropped
	if n := pool.Len(); n > 4 {
		t.Errorf("%d keys are kept", n)
	}
	if err := pool.Save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(text, '\n')
	for _, c := range []struct {
		size int
		good bool
	}{{first / 2, false}, {first + 1, true}, {first + 5, true}, {len(text) - 1, true}, {len(text), true}} {
		if err := os.WriteFile(path, text[:c.size], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Keep(pool, path)
		if c.good != (err == nil) {
			t.Errorf("%d of %d bytes: %v", c.size, len(text), err)
		}
		if err == nil && c.size > first+1 && c.size < len(text) { // the half line is not gone on with
			again.remember("new", limiter.DayUse{Day: 1 << 40, Granted: 1, Used: 1})
			if err := again.Save(); err != nil {
				t.Fatal(err)
			}
			if third, err := Keep(pool, path); err != nil || third.days["new"].Used != 1 || third.days["a"].Used == 0 {
				t.Errorf("after %d of %d bytes: %+v, %v", c.size, len(text), third, err)
			}
		}
	}
}

// TestKept_ReadsRoundDamage: of a file that is damaged in its middle, the other lines count, and
// the next Save writes a file without damage.
func TestKept_ReadsRoundDamage(t *testing.T) {
	for _, c := range []struct{ name, text, damage string }{
		{"a line of zeros", "{\"a\":{\"day\":9,\"granted\":1,\"used\":1}}\n\x00\x00\n{\"b\":{\"day\":9,\"granted\":2,\"used\":2}}\n", "line 2"},
		{"the first line", "{\"a\":{\"da\n{\"a\":{\"day\":9,\"granted\":1,\"used\":1},\"b\":{\"day\":9,\"granted\":2,\"used\":2}}\n", "line 1"},
		{"no end of the only line", "{\"a\":{\"day\":9,\"granted\":1,\"used\":1},\"b\":{\"day\":9,\"granted\":2,\"used\":2}}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "quotas.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			pool, err := Keep(nil, path)
			if c.damage == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.damage) {
				t.Errorf("read: %v", err)
			}
			pool.remember("c", limiter.DayUse{Day: 9, Granted: 3, Used: 3})
			if err := pool.Save(); err != nil {
				t.Fatal(err)
			}
			again, err := Keep(nil, path)
			if err != nil || again.days["a"].Used != 1 || again.days["b"].Used != 2 || again.days["c"].Used != 3 {
				t.Errorf("%+v, %v", again.days, err)
			}
		})
	}
}

// TestKept_WritesWhatHasChanged: of many keys, those that changed are written, and the file stays
// within twice of what is known.
func TestKept_WritesWhatHasChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	pool, err := Keep(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		t.Helper()
		if err := pool.Save(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for i := range 20_000 {
		pool.remember(fmt.Sprint("caller:m/", i), limiter.DayUse{Day: 20_000, Granted: 1, Used: 1})
	}
	whole := size()
	pool.remember("caller:m/7", limiter.DayUse{Day: 20_000, Granted: 2, Used: 2})
	if more := size() - whole; more > 100 {
		t.Errorf("%d bytes are written for one key", more)
	}
	for round := range 200 {
		for i := range 500 {
			pool.remember(fmt.Sprint("caller:m/", i), limiter.DayUse{Day: 20_000, Granted: int64(round + 3), Used: int64(round + 3)})
		}
		if got := size(); got > 2*whole+leastOthers {
			t.Fatalf("the file has %d bytes, of %d for all keys", got, whole)
		}
	}
	again, err := Keep(nil, path)
	if err != nil || again.Len() != 20_000 || again.days["caller:m/499"].Used != 202 || again.days["caller:m/19999"].Used != 1 {
		t.Errorf("%+v, %v", again.days["caller:m/499"], err)
	}
}
