package loadtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// testCrowd is a crowd of 400 for the stub's stock, fast and repeatable.
func testCrowd(s *stub, url string) Config {
	cfg := DefaultConfig()
	cfg.Target, cfg.CallerKey, cfg.Activity, cfg.SKU = url, stubCaller, "618-phones", "phone-x"
	cfg.Stock, cfg.PerUser = s.stock, s.perUser
	cfg.PaymentSecret, cfg.Price, cfg.Currency = stubSecret, 1999, "CNY"
	cfg.Buyers, cfg.Concurrency, cfg.Seed = 400, 8, 618
	cfg.Habits.Repeat, cfg.Habits.SecondTry = 0.5, 0.5
	cfg.VerifyWithin = 20 * time.Minute // waiting readers move the still clock for each other
	return cfg
}

func runCrowd(t *testing.T, s *stub, cfg Config) *Result {
	t.Helper()
	crowd, err := NewCrowd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	crowd.clock = s.clock.clock()
	result, err := crowd.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d requests, buy by code %v, statuses %v", result.Seed, result.Requests(), result.Buy.Codes, result.Statuses)
	return result
}

// verdict returns the names of the invariants that do not hold.
func verdict(r *Result) []string {
	var names []string
	for _, i := range r.Broken() {
		names = append(names, i.Name)
	}
	return names
}

func TestCrowd_EachFaultIsCaughtByName(t *testing.T) {
	payers, cancellers := Habits{Pay: 0.7, PayTwice: 0.1}, Habits{Cancel: 0.5}
	for name, c := range map[string]struct {
		fault  fault
		habits Habits // beside those of testCrowd
		want   []string
	}{
		"an honest shop":                      {honest, Habits{Pay: 0.5, PayTwice: 0.5, Cancel: 0.3}, nil},
		"oversells":                           {oversells, payers, []string{NoOversell}},
		"oversells, and many cancel":          {oversells, cancellers, []string{NoOversell}},
		"loses accepted orders":               {losesOrders, payers, []string{PromiseKept}},
		"answers one key with two orders":     {answersKeyTwice, payers, []string{OneKeyOneOrder, BuyerLimit}},
		"breaks the limit per buyer":          {breaksLimit, payers, []string{BuyerLimit}},
		"breaks it, and many cancel":          {breaksLimit, cancellers, []string{BuyerLimit}},
		"gives two keys one order":            {sharesOrders, Habits{}, []string{PromiseKept, OneOrderOneKey}},
		"says sold out early":                 {saysSoldOutEarly, payers, []string{NoFalseSoldOut}},
		"refuses a key that has an order":     {forgetsKeys, payers, []string{OneKeyOneOrder}},
		"rejects what it accepted":            {rejectsLater, Habits{}, []string{PromiseKept}},
		"forgets payments":                    {forgetsPayments, payers, []string{PaymentKept}},
		"forgets cancellations":               {forgetsCancels, cancellers, []string{CancelKept}},
		"never takes orders out of the queue": {staysQueued, Habits{}, []string{PromiseKept}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 100, 1, c.fault)
			cfg := testCrowd(s, s.listen())
			cfg.Within = 20 * time.Second // so that an early "sold out" is later than the second that is forgiven
			cfg.Habits.Pay, cfg.Habits.PayTwice, cfg.Habits.Cancel = c.habits.Pay, c.habits.PayTwice, c.habits.Cancel
			got := runCrowd(t, s, cfg)
			if !slices.Equal(verdict(got), c.want) {
				t.Errorf("broken: %v, want %v", verdict(got), c.want)
				for _, i := range got.Invariants {
					t.Logf("%+v", i)
				}
			}
			want := 8
			if slices.Contains(c.want, OneKeyOneOrder) { // then the number of taken units is unknown
				want = 7
			}
			if len(got.Invariants) != want {
				t.Errorf("%d invariants judged, want %d", len(got.Invariants), want)
			}
		})
	}
}

func TestCrowd_CountsWhatAnHonestShopDid(t *testing.T) {
	s := newStub(t, 100, 2, honest)
	var seen []Progress
	cfg := testCrowd(s, s.listen())
	cfg.Progress = func(p Progress) { seen = append(seen, p) }
	r := runCrowd(t, s, cfg)

	if r.Served != 400 || r.Promised != s.made || r.Kept != r.Promised {
		t.Errorf("served %d of 400, promised %d, kept %d, the shop made %d orders", r.Served, r.Promised, r.Kept, s.made)
	}
	if int(r.Buy.Sent) != s.total {
		t.Errorf("%d purchases counted, the shop got %d", r.Buy.Sent, s.total)
	}
	if want := int64(400) + r.DoubleClicks + r.Repeats + r.Retries + r.SecondTries; r.Buy.Sent != want {
		t.Errorf("%d purchases sent, but %d by their reasons", r.Buy.Sent, want)
	}
	if r.DoubleClicks == 0 || r.Repeats == 0 || r.SecondTries == 0 {
		t.Errorf("double clicks %d, repeats %d, second tries %d: want some of each", r.DoubleClicks, r.Repeats, r.SecondTries)
	}
	var counted int64
	for o := range outcomes {
		counted += r.Buy.Counts[o]
		if got := r.Buy.Latency[o].Count(); got != r.Buy.Counts[o] {
			t.Errorf("%v: %d latencies of %d answers", o, got, r.Buy.Counts[o])
		}
	}
	if counted != r.Buy.Sent || r.Buy.Count(Accepted) != int64(s.made) || r.Buy.Count(Failed) != 0 {
		t.Errorf("outcomes %v of %d, accepted %d of %d", r.Buy.Counts, r.Buy.Sent, r.Buy.Count(Accepted), s.made)
	}
	statuses := map[string]int{}
	for _, o := range s.orders {
		statuses[o.Status]++
	}
	if !maps.Equal(statuses, r.Statuses) || len(statuses) != 3 {
		t.Errorf("statuses %v, the shop has %v, want three of them", r.Statuses, statuses)
	}
	bought, checked := Progress{}, Progress{}
	for _, p := range seen {
		if p.Stage == Buying {
			bought = p
		} else {
			checked = p
		}
	}
	if bought.Done != 400 || bought.Of != 400 || bought.Requests != r.Buy.Sent || bought.Accepted != r.Promised {
		t.Errorf("last progress of buying %+v", bought)
	}
	if checked.Done != s.made || checked.Of != s.made {
		t.Errorf("last progress of checking %+v, want %d orders", checked, s.made)
	}
}

// L4: the crowd repeats with the same key only, and not before the server said so.
func TestCrowd_ComesBackWhenToldWithTheSameKey(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		want   Outcome
	}{
		"limited":     {429, "rate-limited", Limited},
		"shed":        {503, "overloaded", Shed},
		"degraded":    {503, "degraded", Degraded},
		"unavailable": {503, "unavailable", Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 1000, 1, honest)
			first := make(map[string]time.Time)
			s.before = func(s *stub, ctx *fasthttp.RequestCtx, key string, sent int) bool {
				switch now := s.clock.now(); {
				case sent == 1:
					first[key] = now
				case sent == 3 && now.Sub(first[key]) < 4*time.Second, sent == 2 && now.Sub(first[key]) < 2*time.Second:
					t.Errorf("key %s: request %d came after %v", key, sent, now.Sub(first[key]))
				}
				if sent <= 2 {
					problem(ctx, c.status, c.code, "")
				}
				return sent <= 2
			}
			cfg := testCrowd(s, s.listen())
			cfg.Habits = Habits{}
			r := runCrowd(t, s, cfg)
			if r.Buy.Count(c.want) != 800 || r.Retries != 800 || r.Promised != 400 || len(r.Broken()) != 0 {
				t.Errorf("%v %d, retries %d, promised %d, broken %v", c.want, r.Buy.Count(c.want), r.Retries, r.Promised, r.Broken())
			}
		})
	}
}

func TestCrowd_LeavesWhenAskedTooOftenOrForTooLong(t *testing.T) {
	s := newStub(t, 1000, 1, honest)
	s.before = func(_ *stub, ctx *fasthttp.RequestCtx, _ string, _ int) bool {
		problem(ctx, 429, "rate-limited", "")
		return true
	}
	cfg := testCrowd(s, s.listen())
	cfg.Habits, cfg.Attempts = Habits{}, 4
	if r := runCrowd(t, s, cfg); r.Buy.Sent != 4*400 || r.Promised != 0 {
		t.Errorf("%d requests, want four of each buyer; promised %d", r.Buy.Sent, r.Promised)
	}
	cfg.Patience = time.Second // Retry-After is two
	if r := runCrowd(t, s, cfg); r.Buy.Sent != 400 {
		t.Errorf("%d requests, want one of each buyer", r.Buy.Sent)
	}
}

func TestCrowd_AnUnknownOutcomeIsNotAPromise(t *testing.T) {
	s := newStub(t, 1000, 1, honest)
	s.before = func(s *stub, ctx *fasthttp.RequestCtx, key string, sent int) bool {
		if sent == 1 { // it did not happen: the order is never made
			problem(ctx, 503, "unavailable", "lost-"+key)
		}
		return sent == 1
	}
	cfg := testCrowd(s, s.listen())
	cfg.Habits, cfg.Attempts = Habits{}, 1
	r := runCrowd(t, s, cfg)
	if r.Buy.Count(Unknown) != 400 || r.Promised != 0 || len(r.Broken()) != 0 {
		t.Errorf("unknown %d, promised %d, broken %v", r.Buy.Count(Unknown), r.Promised, r.Broken())
	}
	if r.Read.Sent != 400*missingReads {
		t.Errorf("%d reads: each of 400 orders has to be missing %d times", r.Read.Sent, missingReads)
	}
}

func TestCrowd_AnUnknownOutcomeAndItsRepeatNameOneOrder(t *testing.T) {
	for name, c := range map[string]struct {
		named string
		want  []string
	}{
		"the same":  {"", nil},
		"another":   {"another-", []string{OneKeyOneOrder}},
		"too quiet": {"-", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 1000, 1, honest)
			s.before = func(s *stub, ctx *fasthttp.RequestCtx, key string, sent int) bool {
				if sent > 1 {
					return false
				}
				order := c.named + key
				if c.named == "-" {
					order = ""
				}
				problem(ctx, 503, "unavailable", order)
				if order != "" { // it had happened
					s.keys[key] = key
					s.taken["618-phones/phone-x"]++
					s.orders[key] = &stubOrder{ID: key, Status: "pending_payment", caller: stubCaller}
				}
				return true
			}
			cfg := testCrowd(s, s.listen())
			cfg.Habits = Habits{}
			r := runCrowd(t, s, cfg)
			if !slices.Equal(verdict(r), c.want) || r.Promised != 400 {
				t.Errorf("broken %v, want %v; promised %d", r.Broken(), c.want, r.Promised)
			}
		})
	}
}

func TestCrowd_ReadsBackUntilItKnows(t *testing.T) {
	for name, c := range map[string]struct {
		read  func(ctx *fasthttp.RequestCtx, id string, sent int) bool
		kept  int
		proof string
	}{
		"limited, and missing for a moment": {func(ctx *fasthttp.RequestCtx, _ string, sent int) bool {
			switch sent {
			case 1:
				problem(ctx, 429, "rate-limited", "")
			case 2, 3:
				problem(ctx, 404, "unknown-order", "")
			}
			return sent <= 3
		}, 400, ""},
		"queued for a while": {func(ctx *fasthttp.RequestCtx, id string, sent int) bool {
			if sent <= 4 {
				fmt.Fprintf(ctx, `{"order":%q,"status":"queued"}`, id)
			}
			return sent <= 4
		}, 400, ""},
		"never again": {func(ctx *fasthttp.RequestCtx, _ string, _ int) bool {
			problem(ctx, 503, "unavailable", "")
			return true
		}, 0, "can't be read: no answer in time: unavailable"},
		"forbidden": {func(ctx *fasthttp.RequestCtx, _ string, _ int) bool {
			problem(ctx, 403, "forbidden", "")
			return true
		}, 0, "can't be read: 403"},
		"of somebody else": {func(ctx *fasthttp.RequestCtx, id string, _ int) bool {
			fmt.Fprintf(ctx, `{"order":%q,"user":"somebody","status":"pending_payment"}`, id)
			return true
		}, 0, `reads as user "somebody" instead of "u-`},
		"no JSON": {func(ctx *fasthttp.RequestCtx, _ string, _ int) bool {
			fmt.Fprint(ctx, "fine")
			return true
		}, 0, "can't be read: unreadable: 200 fine"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 1000, 1, honest)
			s.beforeRead = c.read
			cfg := testCrowd(s, s.listen())
			cfg.Habits = Habits{}
			r := runCrowd(t, s, cfg)
			if r.Promised != 400 || r.Kept != c.kept {
				t.Errorf("promised %d, kept %d, want %d of 400", r.Promised, r.Kept, c.kept)
			}
			for _, i := range r.Invariants {
				if i.Name == PromiseKept && (i.Held != (c.proof == "") || !strings.Contains(i.Detail, c.proof)) {
					t.Errorf("%+v, want %q", i, c.proof)
				}
			}
		})
	}
}

func TestCrowd_AConnectionThatBreaksIsRepeated(t *testing.T) {
	s := newStub(t, 1000, 1, honest)
	s.before = func(_ *stub, ctx *fasthttp.RequestCtx, _ string, sent int) bool {
		if sent == 1 {
			if err := ctx.Conn().Close(); err != nil {
				t.Error(err)
			}
		}
		return false // it happened, and only the answer was lost
	}
	cfg := testCrowd(s, s.listen())
	cfg.Habits = Habits{}
	r := runCrowd(t, s, cfg)
	if r.Buy.Codes[codeConnection] != 400 || r.Buy.Count(Replayed) != 400 || r.Promised != 400 || len(r.Broken()) != 0 {
		t.Errorf("codes %v, promised %d, broken %v", r.Buy.Codes, r.Promised, r.Broken())
	}
	if r.Samples[codeConnection] == "" {
		t.Error("no sample of what went wrong")
	}
}

// Coordinated omission: a shop stands still once, for three seconds. That must show in the latency
// of every buyer who would have come meanwhile, not only of the one who was being served.
func TestCrowd_AStallShowsInEveryScheduledLatency(t *testing.T) {
	stall := func(s *stub, _ *fasthttp.RequestCtx, _ string, _ int) bool {
		if s.total == 100 {
			s.clock.move(3 * time.Second)
		}
		return false
	}
	run := func(within time.Duration) *Latency {
		s := newStub(t, 1, 1, honest)
		s.before = stall
		cfg := testCrowd(s, s.listen())
		cfg.Habits, cfg.Buyers, cfg.Concurrency, cfg.Within = Habits{}, 1000, 1, within
		return runCrowd(t, s, cfg).Buy.LatencyOf(Accepted, SoldOut)
	}
	// 10 ms apart, so 300 departures fall into the stall; half of them wait 1.5 s and longer.
	open := run(10 * time.Second)
	if open.Max() < 2900*time.Millisecond || open.Quantile(0.86) < 1400*time.Millisecond || open.Quantile(0.5) > time.Second {
		t.Errorf("scheduled: max %v, p86 %v, p50 %v", open.Max(), open.Quantile(0.86), open.Quantile(0.5))
	}
	// Without a schedule the same stall hits one request.
	closed := run(0)
	if closed.Max() < 2900*time.Millisecond || closed.Quantile(0.99) > time.Millisecond {
		t.Errorf("unscheduled: max %v, p99 %v", closed.Max(), closed.Quantile(0.99))
	}
}

func TestCrowd_EndsWithItsContext(t *testing.T) {
	s := newStub(t, 1000, 1, honest)
	ctx, cancel := context.WithCancel(t.Context())
	s.before = func(s *stub, _ *fasthttp.RequestCtx, _ string, _ int) bool {
		if s.total == 50 {
			cancel()
		}
		return false
	}
	crowd, err := NewCrowd(testCrowd(s, s.listen()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := crowd.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Served == 0 || r.Served >= 400 || r.Read.Sent != 0 || r.Promised == 0 {
		t.Errorf("interrupted %v, served %d, read back %d, promised %d", r.Interrupted, r.Served, r.Read.Sent, r.Promised)
	}
	if len(r.Broken()) != 0 {
		t.Errorf("broken %v: nothing was proven", r.Broken())
	}
}

func TestCrowd_NobodyListens(t *testing.T) {
	s := newStub(t, 1, 1, honest)
	cfg := testCrowd(s, "http://127.0.0.1:1")
	crowd, err := NewCrowd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crowd.Run(t.Context()); err == nil {
		t.Error("no error though nobody listens")
	}
}

func TestNewBuyer_IsAFunctionOfSeedAndNumber(t *testing.T) {
	cfg := DefaultConfig()
	var doubles, repeats, seconds, pays, cancels int
	for i := range 10_000 {
		b, again := newBuyer(&cfg, i), newBuyer(&cfg, i)
		if *b != *again {
			t.Fatalf("buyer %d: %+v and %+v", i, b, again)
		}
		count := func(n *int, is bool) {
			if is {
				*n++
			}
		}
		count(&doubles, b.double)
		count(&repeats, b.repeat)
		count(&seconds, b.count == 2)
		count(&pays, b.tries[0].intent == payFor)
		count(&cancels, b.tries[0].intent == giveUp)
	}
	for _, c := range []struct {
		name string
		got  int
		want float64
	}{
		{"double clicks", doubles, cfg.Habits.DoubleClick}, {"repeats", repeats, cfg.Habits.Repeat},
		{"second tries", seconds, cfg.Habits.SecondTry}, {"pays", pays, cfg.Habits.Pay}, {"cancels", cancels, cfg.Habits.Cancel},
	} {
		if share := float64(c.got) / 10_000; share < c.want-0.02 || share > c.want+0.02 {
			t.Errorf("%s: %v of the buyers, want %v", c.name, share, c.want)
		}
	}
}

// evenly is an arrival policy of 100 per second. Each arrival is its number.
type evenly struct{ start time.Time }

func (evenly) number() int64                              { return 100 }
func (e evenly) due(i int64) time.Time                    { return e.start.Add(time.Duration(i) * 10 * time.Millisecond) }
func (evenly) arrive(i int64) int64                       { return i }
func (evenly) leaves(time.Time, time.Duration, bool) bool { return true }

func TestEngine_HandsOutInOrderAndOnce(t *testing.T) {
	clock := newStillClock()
	start := clock.now()
	e := newEngine(clock.clock(), evenly{start}, nil)
	var dues []time.Duration
	visits := make(map[int64]int)
	e.run(t.Context(), 1, func() func(*turn[int64]) {
		return func(v *turn[int64]) {
			dues = append(dues, v.due.Sub(start))
			if visits[v.of]++; visits[v.of] == 1 && v.of%10 == 0 {
				e.follow(v.due.Add(105*time.Millisecond), v.of)
			}
		}
	})
	if len(visits) != 100 || len(dues) != 110 {
		t.Errorf("%d arrivals in %d turns, want 100 in 110", len(visits), len(dues))
	}
	if !slices.IsSorted(dues) {
		t.Errorf("turns out of order: %v", dues)
	}
	if dues[1] != 10*time.Millisecond || dues[len(dues)-1] < 990*time.Millisecond {
		t.Errorf("departures at %v … %v, want 10ms apart", dues[1], dues[len(dues)-1])
	}
	if left, underway := e.progress(); left != 100 || underway != 0 {
		t.Errorf("%d left, %d under way", left, underway)
	}
}
