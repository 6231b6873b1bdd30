package loadtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestTaste_FollowsAPowerLawInEachActivity(t *testing.T) {
	var all []*goods
	for _, activity := range []string{"a", "b"} {
		for i := range 10 {
			all = append(all, newGoods(&Item{Activity: activity, SKU: fmt.Sprint(i)}, 0))
		}
	}
	for zipf, want := range map[float64]float64{0: 1, 1: 2, 2: 4} { // how often the first is chosen for each time that the second is
		p := newPlan([]Phase{{Duration: time.Hour, From: 100, To: 100}}, 618, 10, newTaste(all, zipf))
		counts := make(map[string]float64)
		const count = 100_000
		for i := range int64(count) {
			g, caller := p.goods(i)
			if again, _ := p.goods(i); again != g || caller != 0 {
				t.Fatalf("departure %d is not a function of the seed", i)
			}
			counts[g.String()]++
		}
		for _, activity := range []string{"a", "b"} {
			sum := 0.0
			for i := range 10 {
				sum += counts[fmt.Sprintf("%s/%d", activity, i)]
			}
			if got := counts[activity+"/0"] / counts[activity+"/1"]; math.Abs(got-want)/want > 0.1 || math.Abs(sum-count/2) > count/100 {
				t.Errorf("zipf %v: of %s %v purchases, the first %v times as often as the second, want %v", zipf, activity, sum, got, want)
			}
		}
	}
	if last := newTaste(all, 1); last.of(math.Nextafter(1, 0)) != all[len(all)-1] || last.of(0) != all[0] {
		t.Error("the ends of the shares are not the first and the last item")
	}
}

// mall has two merchants with one activity each, and three items per activity. Each merchant has
// one caller, and one more caller is for both.
func mall(t *testing.T, f fault) (*stub, LoadConfig) {
	s := newStub(t, 20, 2, f)
	s.skus = []string{"phone-x", `10" tablet, größer`, "tv"}
	s.sees = func(caller, activity string) bool {
		return caller == "both" || caller == "one" && activity == "first" || caller == "two" && activity == "second"
	}
	s.page = `{"items":[{"sku":"phone-x","price":1999,"currency":"CNY","per_user":2},` +
		`{"sku":"10\" tablet, größer","price":1999,"currency":"CNY","per_user":2},{"sku":"tv","price":1999,"currency":"CNY","per_user":2}]}`
	cfg := testLoad(s, s.listen())
	cfg.CallerKeys = []string{"one", "two", "both"}
	cfg.PaymentSecrets = []string{"of-another-merchant", stubSecret}
	cfg.Items = []Item{{Activity: "first"}, {Activity: "second", SKU: "tv", Known: true, Stock: 20, Available: 20}, {Activity: "second"}}
	cfg.Phases[0].Mix = Mix{Repeat: 0.2, DoubleClick: 0.1, Browse: 0.1, Poll: 0.2, Pay: 0.4, Cancel: 0.2}
	return s, cfg
}

func TestLoad_SeveralItemsActivitiesAndCallers(t *testing.T) {
	s, cfg := mall(t, honest)
	r := sendLoad(t, cfg)
	if len(r.Broken()) > 0 || r.Errors() > 0 {
		t.Errorf("broken %v, %d errors: %v", r.Broken(), r.Errors(), r.Samples)
	}
	if len(r.Items) != 6 || len(r.Callers) != 3 || r.Created != s.made {
		t.Fatalf("items %v, callers %v, %d orders of %d", r.Items, r.Callers, r.Created, s.made)
	}
	var byItem, byCaller int64
	for i := range r.Items {
		byItem += r.Items[i].Sent()
		if r.Items[i].Counts[Accepted] < 20 {
			t.Errorf("%s: %d accepted of 20 units", r.Items[i].Name, r.Items[i].Counts[Accepted])
		}
	}
	for i := range r.Callers {
		byCaller += r.Callers[i].Sent()
		if r.Callers[i].Sent() < 50 {
			t.Errorf("caller %s sent %d of %d", r.Callers[i].Name, r.Callers[i].Sent(), r.Buy.Sent)
		}
	}
	if byItem != r.Buy.Sent || byCaller != r.Buy.Sent {
		t.Errorf("%d purchases by item, %d by caller, %d in all", byItem, byCaller, r.Buy.Sent)
	}
	callers := make(map[string]bool)
	for _, o := range s.orders {
		callers[o.caller+" "+o.Activity] = true
	}
	if len(callers) != 4 || callers["one second"] || callers["two first"] {
		t.Errorf("bought %v", callers)
	}
}

// Each item has its own stock: an oversold item is found even if others have units left.
func TestLoad_OneOversoldItemOfMany(t *testing.T) {
	_, cfg := mall(t, oversells)
	cfg.Phases[0].Mix = Mix{}
	r := sendLoad(t, cfg)
	if got := verdict(&r.Result); len(got) != 1 || got[0] != NoOversell || !strings.Contains(r.Broken()[0].Detail, "22 units of second/tv") {
		t.Errorf("broken %v", r.Broken())
	}
}

func TestLoad_CallersThatSeeNothing(t *testing.T) {
	for want, change := range map[string]func(*stub, *LoadConfig){
		"caller key 2 of 3 sees none of the sales": func(_ *stub, c *LoadConfig) { c.CallerKeys[1] = "stranger" },
		"first: 404":                   func(_ *stub, c *LoadConfig) { c.CallerKeys = []string{"two"} },
		"names no items":               func(s *stub, _ *LoadConfig) { s.page = "{}" },
		"second/tv: to pay, the price": func(s *stub, _ *LoadConfig) { s.page = `{"items":[{"sku":"a","price":1,"currency":"CNY"}]}` },
	} {
		s, cfg := mall(t, honest)
		change(s, &cfg)
		l, err := NewLoad(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Run(t.Context()); !errors.Is(err, ErrSale) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
