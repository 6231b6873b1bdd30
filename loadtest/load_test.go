package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// testLoad is half a second of purchases for the stub's stock, by the machine's clock.
func testLoad(s *stub, urls ...string) LoadConfig {
	cfg := DefaultLoadConfig()
	cfg.Targets, cfg.CallerKeys, cfg.PaymentSecrets = urls, []string{stubCaller}, []string{stubSecret}
	cfg.Items = []Item{{
		Activity: "618-phones", SKU: "phone-x", Known: true, Stock: s.stock, Available: s.stock, PerUser: s.perUser, Price: 1999, Currency: "CNY",
	}}
	cfg.Users, cfg.Seed, cfg.Connections = 300, 618, 16
	cfg.PollFor, cfg.VerifyWithin = 300*time.Millisecond, 300*time.Millisecond
	cfg.Phases = []Phase{{Name: "load", Duration: 500 * time.Millisecond, From: 1000, To: 1000, Mix: DefaultMix()}}
	return cfg
}

func sendLoad(t *testing.T, cfg LoadConfig) *LoadResult {
	t.Helper()
	l, err := NewLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d sent, buy by code %v, statuses %v", r.Seed, r.Total(), r.Buy.Codes, r.Statuses)
	return r
}

func TestLoad_EachFaultIsCaughtByName(t *testing.T) {
	for name, c := range map[string]struct {
		fault fault
		mix   Mix
		want  []string
	}{
		"an honest shop":                  {honest, Mix{Repeat: 0.2, DoubleClick: 0.1, Poll: 0.5, Pay: 0.5, Cancel: 0.3}, nil},
		"oversells":                       {oversells, Mix{Repeat: 0.1}, []string{NoOversell}},
		"loses accepted orders":           {losesOrders, Mix{Repeat: 0.1}, []string{PromiseKept}},
		"answers one key with two orders": {answersKeyTwice, Mix{Repeat: 0.2, DoubleClick: 0.2}, []string{OneKeyOneOrder, BuyerLimit}},
		"breaks the limit per buyer":      {breaksLimit, Mix{}, []string{BuyerLimit}},
		"gives two keys one order":        {sharesOrders, Mix{}, []string{PromiseKept, OneOrderOneKey}},
		"refuses a key that has an order": {forgetsKeys, Mix{Repeat: 0.3}, []string{OneKeyOneOrder}},
		"rejects what it accepted":        {rejectsLater, Mix{}, []string{PromiseKept}},
		"forgets payments":                {forgetsPayments, Mix{Pay: 0.5}, []string{PaymentKept}},
		"forgets cancellations":           {forgetsCancels, Mix{Cancel: 0.5}, []string{CancelKept}},
		"never takes orders out of queue": {staysQueued, Mix{}, []string{PromiseKept}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for the clock most of the time
			s := newStub(t, 100, 1, c.fault)
			cfg := testLoad(s, s.listen())
			cfg.Phases[0].Mix = c.mix
			if c.fault == breaksLimit {
				cfg.Users = 60
			}
			r := sendLoad(t, cfg)
			if !slices.Equal(verdict(&r.Result), c.want) {
				t.Errorf("broken: %v, want %v", r.Broken(), c.want)
			}
		})
	}
}

func TestLoad_SendsThePlanWhateverTheAnswersAre(t *testing.T) {
	s := newStub(t, 50, 1, honest)
	s.before = func(_ *stub, ctx *fasthttp.RequestCtx, _ string, sent int) bool {
		if sent%3 == 0 { // with a Retry-After, which a load does not follow
			problem(ctx, 429, "rate-limited", "")
		}
		return sent%3 == 0
	}
	first, second := s.listen(), s.listen()
	cfg := testLoad(s, first, second)
	cfg.Phases[0].Mix = Mix{Browse: 0.2, Repeat: 0.3, DoubleClick: 0.1}
	r := sendLoad(t, cfg)
	if r.Planned != 500 || r.Left != 500 || r.Total() != 500 || r.Dropped != 0 {
		t.Errorf("%d planned, %d left, %d sent, %d dropped: want 500 sent once each", r.Planned, r.Left, r.Total(), r.Dropped)
	}
	if int(r.Buy.Sent) != s.total || r.Created != s.made || r.Buy.Count(Accepted) != int64(s.made) {
		t.Errorf("%d purchases of %d seen, %d accepted and %d created of %d", r.Buy.Sent, s.total, r.Buy.Count(Accepted), r.Created, s.made)
	}
	keys := 0
	for key := range s.sent {
		if strings.HasPrefix(key, "k-") {
			keys++
		}
	}
	if again := int64(s.total - keys); again != r.Repeats+r.DoubleClicks {
		t.Errorf("%d requests had the key of an earlier one, counted are %d repeats and %d double clicks", again, r.Repeats, r.DoubleClicks)
	}
	if r.Scheduled.Count() != 500 || r.Service.Count() != 500 || r.Browse.Sent != 500-r.Buy.Sent || r.Browse.Sent == 0 {
		t.Errorf("%d latencies, %d looks at the page", r.Scheduled.Count(), r.Browse.Sent)
	}
	answered := int64(0)
	planned := 0.0
	for _, slot := range r.Series {
		planned += slot.Planned
		answered += slot.Others
		for _, n := range slot.Outcomes {
			answered += n
		}
	}
	if answered != r.Total() || math.Abs(planned-500) > 1e-6 {
		t.Errorf("over time %d answers and %v departures, want 500", answered, planned)
	}
	if len(r.Broken()) != 0 {
		t.Errorf("broken: %v", r.Broken())
	}
}

func TestLoad_FollowsAcceptedOrders(t *testing.T) {
	s := newStub(t, 1000, 1000, honest)
	s.beforeRead = func(ctx *fasthttp.RequestCtx, id string, sent int) bool {
		if sent <= 2 {
			fmt.Fprintf(ctx, `{"order":%q,"status":"queued"}`, id)
		}
		return sent <= 2
	}
	cfg := testLoad(s, s.listen())
	cfg.Phases[0].Mix = Mix{Poll: 1, Pay: 0.6, Cancel: 0.2}
	cfg.PollFor = time.Hour
	r := sendLoad(t, cfg)
	// The first two polls say queued. The third comes at least 50 ms after the click. A buyer who
	// has cancelled by then sees no confirmation.
	if r.Poll.Sent < 3*500 || r.Confirmed.Count() < int64(500-r.Statuses["cancelled"]) || r.Confirmed.Count() > 500 || r.Confirmed.Quantile(0.01) < firstPoll {
		t.Errorf("%d polls, %d confirmed, the quickest after %v", r.Poll.Sent, r.Confirmed.Count(), r.Confirmed.Quantile(0))
	}
	if paid, cancelled := r.Statuses["paid"], r.Statuses["cancelled"]; paid < 250 || paid > 350 || cancelled < 60 || cancelled > 140 { // the seed has 318 and 88
		t.Errorf("of 500 orders %d were paid and %d cancelled, want 300 and 100", paid, cancelled)
	}
	if r.Planned != 500 || r.Buy.Sent != 500 || r.Total() != 500+r.Poll.Sent+r.Pay.Sent+r.Cancel.Sent || len(r.Broken()) != 0 {
		t.Errorf("%d of %d purchases, %d in all, broken %v", r.Buy.Sent, r.Planned, r.Total(), r.Broken())
	}
	if rate := r.AchievedRate(); rate > 1000.1 {
		t.Errorf("%v departures a second of 1000", rate)
	}
}

// Coordinated omission: purchases follow a schedule, so one stall of the shop counts for everyone
// who came meanwhile. The test checks lower bounds, because a busy machine makes latencies longer,
// never shorter.
func TestLoad_AStallShowsInEveryScheduledLatency(t *testing.T) {
	const stall = 300 * time.Millisecond
	s := newStub(t, 1, 1, honest)
	s.before = func(s *stub, _ *fasthttp.RequestCtx, _ string, _ int) bool {
		if s.total == 50 { // under the stub's lock: it serves nobody meanwhile
			<-time.After(stall)
		}
		return false
	}
	cfg := testLoad(s, s.listen())
	cfg.Connections = 2
	r := sendLoad(t, cfg)
	// A departure each millisecond: those of the first half of the stall wait at least the other
	// half.
	if slow := r.Scheduled.Quantile(0.72); r.Scheduled.Max() < stall || slow < stall/2 {
		t.Errorf("since due: max %v, p72 %v; want at least %v and %v", r.Scheduled.Max(), slow, stall, stall/2)
	}
	// A closed model would see only the two that were in progress.
	if r.Crowded < 150 || r.Left != 500 {
		t.Errorf("%d of %d departures waited for a connection, want all of the stall", r.Crowded, r.Left)
	}
	if warnings := strings.Join(r.Warnings(), "\n"); !strings.Contains(warnings, "all 2 connections were waiting for answers") {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestLoad_DropsWhatCannotLeaveInTime(t *testing.T) {
	s := newStub(t, 1, 1, honest)
	s.before = func(s *stub, _ *fasthttp.RequestCtx, _ string, _ int) bool {
		if s.total == 1 {
			<-time.After(300 * time.Millisecond)
		}
		return false
	}
	cfg := testLoad(s, s.listen())
	cfg.Connections, cfg.RequestTimeout = 1, 100*time.Millisecond
	r := sendLoad(t, cfg)
	if r.Dropped == 0 || r.Left+r.Dropped != 500 || r.Buy.Codes[codeTimeout] == 0 {
		t.Errorf("%d left, %d dropped, codes %v", r.Left, r.Dropped, r.Buy.Codes)
	}
	if r.Answered() != r.Total()-r.Buy.Codes[codeTimeout] || r.ErrorRate() < float64(r.Dropped)/500 {
		t.Errorf("%d answered of %d, error rate %v", r.Answered(), r.Total(), r.ErrorRate())
	}
}

func TestLoad_EndsWithItsContextAndReadsBack(t *testing.T) {
	s := newStub(t, 1000, 1000, honest)
	ctx, cancel := context.WithCancel(t.Context())
	s.before = func(s *stub, _ *fasthttp.RequestCtx, _ string, _ int) bool {
		if s.total == 50 {
			cancel()
		}
		return false
	}
	cfg := testLoad(s, s.listen())
	cfg.Phases[0].Duration = time.Hour
	l, err := NewLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if elapsed := r.Stopped.Seconds(); elapsed <= 0 || r.AchievedRate() > float64(r.Left)/elapsed || r.OfferedRate() < 999 || r.OfferedRate() > 1001 {
		t.Errorf("after %v s %v/s of %v/s, which is not of the time that passed", elapsed, r.AchievedRate(), r.OfferedRate())
	}
	if !r.Interrupted || !r.ReadBack || r.Left < 50 || r.Left > 1000 || r.Created != s.made || len(r.Broken()) != 0 {
		t.Errorf("interrupted %v, read back %v, %d left, %d of %d orders, broken %v", r.Interrupted, r.ReadBack, r.Left, r.Created, s.made, r.Broken())
	}
}

func TestLoad_LooksAtTheSaleFirst(t *testing.T) {
	for name, c := range map[string]struct {
		key  string
		page string
		mix  Mix
		want string
	}{
		"a wrong key":           {"wrong", "", Mix{}, "401"},
		"no price to pay":       {stubCaller, "", Mix{Pay: 1}, "the price is needed"},
		"a price on the page":   {stubCaller, `{"items":[{"sku":"phone-x","price":1999,"currency":"CNY","per_user":7}]}`, Mix{Pay: 1}, ""},
		"a page of other items": {stubCaller, `{"items":[{"sku":"phone-y","price":1999,"currency":"CNY"}]}`, Mix{Pay: 1}, "the price is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 1000, 1000, honest)
			s.page = c.page
			cfg := testLoad(s, s.listen())
			cfg.CallerKeys[0], cfg.Items[0].Price, cfg.Items[0].PerUser, cfg.Phases[0].Mix = c.key, 0, 0, c.mix
			cfg.Phases[0].Duration = 20 * time.Millisecond
			l, err := NewLoad(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.Run(t.Context())
			if c.want != "" {
				if !errors.Is(err, ErrSale) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if limit := slices.IndexFunc(r.Invariants, func(i Invariant) bool { return i.Name == BuyerLimit }); limit < 0 || r.Statuses["paid"] != 20 {
				t.Errorf("invariants %v, statuses %v: want the limit judged and 20 paid", r.Invariants, r.Statuses)
			}
		})
	}
}

// conforms checks a value against a JSON Schema. It knows the keywords that summary.schema.json
// uses; any other keyword is an error.
func conforms(root, schema map[string]any, value any, at string) []string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	if ref, ok := schema["$ref"].(string); ok {
		defs := root["$defs"].(map[string]any)
		return conforms(root, defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), value, at)
	}
	object, isObject := value.(map[string]any)
	list, isList := value.([]any)
	number, isNumber := value.(float64)
	properties, _ := schema["properties"].(map[string]any)
	for word, want := range schema {
		switch word {
		case "type":
			_, isString := value.(string)
			_, isBool := value.(bool)
			if !map[string]bool{"object": isObject, "array": isList, "string": isString, "boolean": isBool,
				"number": isNumber, "integer": isNumber && number == math.Trunc(number)}[want.(string)] {
				bad("is %v, not of type %v", value, want)
			}
		case "required":
			for _, name := range want.([]any) {
				if _, ok := object[name.(string)]; !ok {
					bad("lacks %v", name)
				}
			}
		case "properties", "$schema", "$id", "$defs", "title", "description":
		case "additionalProperties":
			for name, member := range object {
				of, known := properties[name].(map[string]any)
				more, open := want.(map[string]any)
				switch {
				case known:
					wrong = append(wrong, conforms(root, of, member, at+"."+name)...)
				case open:
					wrong = append(wrong, conforms(root, more, member, at+"."+name)...)
				default:
					bad("has the unknown member %s", name)
				}
			}
		case "items":
			for i, one := range list {
				wrong = append(wrong, conforms(root, want.(map[string]any), one, fmt.Sprintf("%s[%d]", at, i))...)
			}
		case "minimum":
			if number < want.(float64) {
				bad("is %v, below %v", number, want)
			}
		case "enum":
			if !slices.Contains(want.([]any), value) {
				bad("is %v, not one of %v", value, want)
			}
		default:
			bad("the schema says %q, which this check does not know", word)
		}
	}
	return wrong
}

func TestSummary_ConformsToItsSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(SummarySchema(), &schema); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]fault{"passed": honest, "broken": losesOrders} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 100, 1, f)
			cfg := testLoad(s, s.listen())
			cfg.Phases[0].Mix = Mix{Browse: 0.1, Repeat: 0.1, Poll: 1}
			slos, err := ParseSLOs("p99(accepted)<1h, error_rate<100%")
			if err != nil {
				t.Fatal(err)
			}
			summary := NewSummary(sendLoad(t, cfg), slos, RunCard{
				Command: "penstock loadtest", Version: "v1", Started: time.Now(), Targets: cfg.Targets, Sales: []string{"618-phones"},
			})
			summary.Audit([]Books{{Total: 100, Held: 100, Balanced: true}}, 1, true)
			text, err := summary.JSON()
			if err != nil {
				t.Fatal(err)
			}
			var value map[string]any
			if err := json.Unmarshal(text, &value); err != nil {
				t.Fatal(err)
			}
			if wrong := conforms(schema, schema, value, "summary"); len(wrong) > 0 {
				t.Errorf("%s", strings.Join(wrong, "\n"))
			}
			again, err := ReadSummary(text)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := again.JSON(); err != nil || string(back) != string(text) {
				t.Errorf("read back as another summary: %v\n%s", err, back)
			}
			sum := int64(0)
			for _, n := range summary.ByCode {
				sum += n
			}
			if string(summary.Verdict) != name || sum != summary.Answered {
				t.Errorf("verdict %s, by code %v of %d", summary.Verdict, summary.ByCode, summary.Answered)
			}
			value["verdict"], value["sent"], value["more"] = "fine", -1.0, 1.0
			delete(value, "errors")
			if wrong := conforms(schema, schema, value, "summary"); len(wrong) != 4 {
				t.Errorf("four mistakes, found: %v", wrong)
			}
		})
	}
}

func TestSummary_Audit(t *testing.T) {
	for name, c := range map[string]struct {
		books Books
		want  []string
	}{
		"sound":             {Books{Total: 10, Available: 3, Held: 3, Sold: 4, Balanced: true}, nil},
		"others buy too":    {Books{Total: 10, Available: 0, Held: 6, Sold: 4, Balanced: true}, nil},
		"does not add up":   {Books{Total: 10, Available: 2, Held: 3, Sold: 4, Balanced: true}, []string{BooksBalance}},
		"in flight":         {Books{Total: 10, Available: 3, Held: 3, Sold: 4, InFlight: 1, Balanced: true}, []string{BooksBalance}},
		"says so itself":    {Books{Total: 10, Available: 3, Held: 3, Sold: 4}, []string{BooksBalance}},
		"lost two promises": {Books{Total: 10, Available: 5, Held: 1, Sold: 4, Balanced: true}, []string{BooksAgree}},
	} {
		s := &Summary{ReadBack: true, Verdict: Passed, Statuses: map[string]int{statusPaid: 4, statusPending: 3, statusCancelled: 9}}
		s.Audit([]Books{{Item: "a/b", Total: 5, Available: 5, Balanced: true}, c.books}, 1, true)
		var broken []string
		for _, i := range s.Invariants {
			if !i.Held {
				broken = append(broken, i.Name)
			}
		}
		if !slices.Equal(broken, c.want) || (s.Verdict == Broken) != (len(c.want) > 0) {
			t.Errorf("%s: broken %v, want %v; verdict %s", name, broken, c.want, s.Verdict)
		}
	}
}

// After a load that was cut short, units in flight prove nothing.
func TestSummary_AuditThatDidNotWait(t *testing.T) {
	s := &Summary{ReadBack: true, Verdict: Interrupted, Statuses: map[string]int{}, interrupted: true}
	s.Audit([]Books{{Total: 10, Available: 3, Held: 3, Sold: 4, InFlight: 1, Balanced: true}}, 1, false)
	if s.Verdict != Interrupted || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "still had 1 in flight") {
		t.Errorf("%s, invariants %v, warnings %q", s.Verdict, s.Invariants, s.Warnings)
	}
}

func TestReport_IsOnePageThatNeedsNothingElse(t *testing.T) {
	r := &LoadResult{Length: maxSlots * time.Second, SlotWidth: time.Second, Planned: 1, Left: 1, ReadBack: true}
	r.Scheduled, r.Confirmed, r.Lag = newLatency(), newLatency(), newLatency()
	const hostile = `<script>alert("x")</script>`
	r.Samples = map[string]string{"500": hostile}
	r.Statuses = map[string]int{hostile: 1}
	r.Invariants = []Invariant{{Name: NoOversell, Detail: hostile}}
	r.Buy.Codes = map[string]int64{hostile: 1}
	for o := range outcomes {
		r.Buy.Latency[o] = newLatency()
		for i := range 2000 {
			r.Buy.Latency[o].record(time.Duration(i) * time.Millisecond)
		}
		r.Buy.Counts[o], r.Buy.Sent = 2000, r.Buy.Sent+2000
	}
	for i := range maxSlots {
		slot := Stretch{Start: time.Duration(i) * time.Second, Planned: 123456, P50: time.Millisecond, P99: time.Second, Max: time.Minute}
		for o := range outcomes {
			slot.Outcomes[o] = 123456
		}
		r.Series = append(r.Series, slot)
	}
	slos, err := ParseSLOs("p99(sold-out)<50ms")
	if err != nil {
		t.Fatal(err)
	}
	page := string(NewSummary(r, slos, RunCard{Command: hostile, Sales: []string{hostile}}).HTML())
	if len(page) > 500_000 {
		t.Errorf("%d bytes", len(page))
	}
	if found := regexp.MustCompile(`(?i)<script|javascript:|\b(src|href)=|url\(|@import|%!|NaN|Inf`).FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
	for _, want := range []string{
		"Failed: an invariant is broken", "&lt;script&gt;", "prefers-color-scheme:dark", `role="img"`, "p99(sold-out)&lt;50ms", "The generator itself",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if open, closed := strings.Count(page, "<svg"), strings.Count(page, "</svg>"); open != 3 || closed != 3 {
		t.Errorf("%d charts begin, %d end, want 3", open, closed)
	}
	for _, tag := range []string{"section", "table", "tr", "td", "th", "dl", "ul", "li", "g", "div", "details"} {
		open := len(regexp.MustCompile("<"+tag+"[ >]").FindAllString(page, -1))
		if closed := strings.Count(page, "</"+tag+">"); open != closed {
			t.Errorf("%d <%s>, %d </%s>", open, tag, closed, tag)
		}
	}
	// A load without any answer has a report too.
	empty := string(NewSummary(&LoadResult{}, nil, RunCard{}).HTML())
	if strings.Contains(empty, "%!") || strings.Contains(empty, "NaN") || !strings.Contains(empty, "</html>") {
		t.Errorf("an empty report: %s", empty)
	}
}

func TestLoadConfig_ValidateNamesWhatIsWrong(t *testing.T) {
	sound := func() LoadConfig {
		s := &stub{stock: 1, perUser: 1}
		return testLoad(s, "http://127.0.0.1:1", "https://shop.example")
	}
	cfg := sound()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*LoadConfig){
		"target: 0":          func(c *LoadConfig) { c.Targets = nil },
		"target: \"x\"":      func(c *LoadConfig) { c.Targets[1] = "x" },
		"caller-key":         func(c *LoadConfig) { c.CallerKeys = nil },
		"caller-key: number": func(c *LoadConfig) { c.CallerKeys = append(c.CallerKeys, "a b") },
		"activity":           func(c *LoadConfig) { c.Items = nil },
		"activity: \"a":      func(c *LoadConfig) { c.Items[0].Activity = "a b" },
		"sku":                func(c *LoadConfig) { c.Items[0].SKU = "a\x07b" },
		"sku: 618":           func(c *LoadConfig) { c.Items = append(c.Items, c.Items[0]) },
		"stock":              func(c *LoadConfig) { c.Items[0].Stock = -1 },
		"zipf":               func(c *LoadConfig) { c.Zipf = math.NaN() },
		"quantity":           func(c *LoadConfig) { c.Quantity = 0 },
		"users":              func(c *LoadConfig) { c.Users = 0 },
		"connections":        func(c *LoadConfig) { c.Connections = maxConcurrency + 1 },
		"request-timeout":    func(c *LoadConfig) { c.RequestTimeout = 0 },
		"price":              func(c *LoadConfig) { c.Items[0].Price = -1 },
		"currency":           func(c *LoadConfig) { c.Items[0].Currency = "yuan" },
		"phases":             func(c *LoadConfig) { c.Phases = nil },
		"duration: 0s":       func(c *LoadConfig) { c.Phases[0].Duration = 0 },
		"duration: all":      func(c *LoadConfig) { c.Phases = append(c.Phases, Phase{Duration: maxTime}) },
		"rate: NaN":          func(c *LoadConfig) { c.Phases[0].From = math.NaN() },
		"rate: -1":           func(c *LoadConfig) { c.Phases[0].To = -1 },
		"rate: +Inf":         func(c *LoadConfig) { c.Phases[0].To = math.Inf(1) },
		"rate: nothing":      func(c *LoadConfig) { c.Phases[0].From, c.Phases[0].To = 0, 0 },
		"rate: 86400000000":  func(c *LoadConfig) { c.Phases = []Phase{{Duration: maxTime, From: maxRate, To: maxRate}} },
		"browse":             func(c *LoadConfig) { c.Phases[0].Mix.Browse = 2 },
		"pay and cancel":     func(c *LoadConfig) { c.Phases[0].Mix.Pay, c.Phases[0].Mix.Cancel = 0.6, 0.6 },
		"repeat and double":  func(c *LoadConfig) { c.Phases[0].Mix.Repeat, c.Phases[0].Mix.DoubleClick = 0.5, 0.5 },
		"pay: needs":         func(c *LoadConfig) { c.PaymentSecrets, c.Phases[0].Mix.Pay = nil, 1 },
	} {
		cfg := sound()
		change(&cfg)
		if _, err := NewLoad(cfg); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A load without accepted purchases is no success, though no promise was broken.
func TestSummary_OfALoadThatGotNothing(t *testing.T) {
	for name, c := range map[string]struct {
		mix  Mix
		sku  string
		sign string
		want Verdict
		of   string
	}{
		"all is well":            {Mix{Pay: 1}, "phone-x", stubSecret, Passed, ""},
		"no such item":           {Mix{}, "nope", stubSecret, Nothing, "every purchase ended in an error"},
		"payments are not taken": {Mix{Pay: 1}, "phone-x", "wrong", Nothing, "every payment ended in an error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, 1000, 1000, honest)
			cfg := testLoad(s, s.listen())
			cfg.Items[0].SKU, cfg.PaymentSecrets[0], cfg.Phases[0].Mix = c.sku, c.sign, c.mix
			cfg.Phases[0].Duration = 20 * time.Millisecond
			if got := NewSummary(sendLoad(t, cfg), nil, RunCard{}); got.Verdict != c.want || got.NothingOf() != c.of {
				t.Errorf("%s of %q, want %s of %q; %v", got.Verdict, got.NothingOf(), c.want, c.of, got.Samples)
			}
		})
	}
}

// Purchases that were always refused were not tested either, though each answer fits the contract.
func TestSummary_OfALoadThatWasRefused(t *testing.T) {
	for code, words := range map[string]string{
		"degraded": "no purchase was accepted: 40 degraded", "not-started": "no purchase was accepted: 40 refused",
		"rate-limited": "no purchase was accepted: 40 limited", "sold-out": "no purchase was accepted: 40 sold-out",
	} {
		var tally Tally
		tally.Sent = 40
		outcome := map[string]Outcome{"degraded": Degraded, "not-started": Refused, "rate-limited": Limited, "sold-out": SoldOut}[code]
		tally.Counts[outcome] = 40
		r := &LoadResult{}
		r.Buy = tally
		if s := NewSummary(r, nil, RunCard{}); s.Verdict != Nothing || s.NothingOf() != words {
			t.Errorf("%s: %s, %q", code, s.Verdict, s.NothingOf())
		}
	}
}

// An order that can't be read is not judged, and the run is no success.
func TestSummary_OfAServerThatIsAwayInTheEnd(t *testing.T) {
	s := newStub(t, 1000, 1000, honest)
	s.beforeRead = func(ctx *fasthttp.RequestCtx, _ string, _ int) bool {
		ctx.SetStatusCode(503)
		ctx.SetContentType("application/problem+json")
		fmt.Fprint(ctx, `{"code":"unavailable"}`)
		return true
	}
	cfg := testLoad(s, s.listen())
	cfg.Phases[0].Duration, cfg.Phases[0].Mix = 20*time.Millisecond, Mix{}
	got := NewSummary(sendLoad(t, cfg), nil, RunCard{})
	if got.Verdict != Unread || got.Unread == 0 || got.ReadBack {
		t.Errorf("%s, %d unread, read back %v: %v", got.Verdict, got.Unread, got.ReadBack, got.Invariants)
	}
	for _, i := range got.Invariants {
		if !i.Held {
			t.Errorf("%s is broken without a proof: %s", i.Name, i.Detail)
		}
	}
}
