package limiter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// good returns a policy without a mistake.
func good(change func(*Policy)) Policy {
	p := Policy{Name: "p", Key: Caller, Rate: 400, Burst: 400, Mode: Enforce}
	if change != nil {
		change(&p)
	}
	return p
}

// errorsOf returns the mistakes that Validate finds, one per line.
func errorsOf(t *testing.T, policies ...Policy) []string {
	t.Helper()
	err := (&Document{Policies: policies}).Validate()
	if err == nil {
		return nil
	}
	fields, ok := errors.AsType[FieldErrors](err)
	if !ok {
		t.Fatalf("%T is no FieldErrors", err)
	}
	var lines []string
	for _, f := range fields {
		lines = append(lines, f.Field+" "+f.Detail)
	}
	return lines
}

func TestValidateNamesTheMistake(t *testing.T) {
	f := func(want string, change func(*Policy)) {
		t.Helper()
		got := errorsOf(t, good(change))
		switch {
		case want == "" && len(got) != 0:
			t.Errorf("a good policy is refused: %q", got)
		case want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "policies[0]."+want)):
			t.Errorf("got %q, want one that begins with %q", got, want)
		}
	}
	f("", nil)
	f("name is required", func(p *Policy) { p.Name = "" })
	f("name must consist", func(p *Policy) { p.Name = `a"b` })
	f("name must be at most 64", func(p *Policy) { p.Name = strings.Repeat("x", 65) })
	f("name must not be", func(p *Policy) { p.Name = ".." })
	f("key is required", func(p *Policy) { p.Key = "" })
	f("key must be", func(p *Policy) { p.Key = "Caller" })
	f("mode is required", func(p *Policy) { p.Mode = "" })
	f("mode must be", func(p *Policy) { p.Mode = "on" })

	f("rate must be above 0; to let nobody in", func(p *Policy) { p.Rate = 0 })
	f("rate must be above 0", func(p *Policy) { p.Rate = -1 })
	f("rate must be above 0", func(p *Policy) { p.Rate = math.Copysign(0, -1) })
	f("rate must be a number", func(p *Policy) { p.Rate = math.NaN() })
	f("rate must be a number", func(p *Policy) { p.Rate = math.Inf(1) })
	f("rate must be a number", func(p *Policy) { p.Rate = math.Inf(-1) })
	f("rate must be at least", func(p *Policy) { p.Rate = math.SmallestNonzeroFloat64 })
	f("rate must be at most", func(p *Policy) { p.Rate = 1e7 + 1 })
	f("rate must be at most", func(p *Policy) { p.Rate = math.MaxFloat64 })
	f("", func(p *Policy) { p.Rate = MaxRate })
	f("", func(p *Policy) { p.Rate, p.Burst = MinRate, 6 })
	f("burst would take", func(p *Policy) { p.Rate, p.Burst = MinRate, 7 })
	f("burst must be at least 1", func(p *Policy) { p.Burst = 0 })
	f("burst must be at least 1", func(p *Policy) { p.Burst = math.MinInt64 })
	f("burst must be at most", func(p *Policy) { p.Burst = math.MaxInt64 })
	f("", func(p *Policy) { p.Rate, p.Burst = MaxRate, MaxBurst })

	f("concurrency must be from 1 to 1000000; to let nobody in", func(p *Policy) { p.Concurrency = -1 })
	f("concurrency must be from 1", func(p *Policy) { p.Concurrency = math.MaxInt64 })
	f("", func(p *Policy) { p.Concurrency = MaxConcurrency })
	f("", func(p *Policy) { p.Concurrency, p.Rate, p.Burst = 1, 0, 0 })
	f("rate must be above 0", func(p *Policy) { p.Concurrency, p.Rate = 1, 0 })
	f("burst must be at least 1", func(p *Policy) { p.Concurrency, p.Burst = 1, 0 })
	f("cost.purchase must be from 0, which means free, to 1000000", func(p *Policy) { p.Cost = &Cost{Purchase: -1} })
	f("cost.page must be from 0", func(p *Policy) { p.Cost = &Cost{Page: math.MaxInt64} })
	f("cost.status must be at most the burst, 400", func(p *Policy) { p.Cost = &Cost{Status: 401} })
	f("cost.unit must be at most the burst, 400", func(p *Policy) { p.Cost = &Cost{Unit: 401} })
	for _, key := range []Kind{User, SKU, Activity} {
		f("cost.status must be 0 with this key", func(p *Policy) { p.Key, p.Cost = key, &Cost{Status: 1} })
	}
	f("cost.page must be 0 with this key", func(p *Policy) { p.Key, p.Cost = User, &Cost{Page: 1} })
	f("cost.page must be 0 with this key", func(p *Policy) { p.Key, p.Cost = SKU, &Cost{Page: 1} })
	f("", func(p *Policy) { p.Key, p.Cost = Activity, &Cost{Page: 1} })
	f("cost must charge for something", func(p *Policy) { p.Cost = &Cost{} })
	f("", func(p *Policy) { p.Cost = &Cost{Purchase: 200, Unit: 200, Page: 400, Status: 400} })
	f("cost.unit makes a purchase of one unit cost 401, above the burst, 400", func(p *Policy) { p.Cost = &Cost{Purchase: 200, Unit: 201} })
	f("cost.unit makes a purchase of one unit cost 31, above the quota, 30", func(p *Policy) { p.Quota, p.Cost = 30, &Cost{Purchase: 1, Unit: 30} })

	f("quota must be from 1 to 1000000000000; to let nobody in", func(p *Policy) { p.Quota = -1 })
	f("quota must be from 1", func(p *Policy) { p.Quota = math.MaxInt64 })
	f("quota must not be given with the key global", func(p *Policy) { p.Key, p.Quota = Global, 5 })
	f("quota is required with zone", func(p *Policy) { p.Zone = "UTC" })
	f("quota is required with zone", func(p *Policy) { p.QuotaMax = 5 })
	f("zone must be a name of the time zone database", func(p *Policy) { p.Quota, p.Zone = 500, "Local" })
	f("zone must be a name of the time zone database", func(p *Policy) { p.Quota, p.Zone = 500, "../etc/passwd" })
	f("zone must be a name of the time zone database", func(p *Policy) { p.Quota, p.Zone = 500, "Mars/Olympus" })
	f("", func(p *Policy) { p.Quota, p.Zone = 500, "Asia/Shanghai" })
	f("", func(p *Policy) { p.Quota, p.Rate, p.Burst = MaxQuota, 0, 0 })
	f("cost.unit must be at most the quota, 5", func(p *Policy) { p.Quota, p.Cost = 5, &Cost{Unit: 6} })
	f("quota_per_sku must be from 1", func(p *Policy) { p.Quota, p.QuotaPerSKU, p.QuotaMax = 5, -1, 9 })
	f("quota_per_sku is for merchants", func(p *Policy) { p.Key, p.Quota, p.QuotaPerSKU, p.QuotaMax = User, 5, 1, 9 })
	f("quota_max is required", func(p *Policy) { p.Quota, p.QuotaPerSKU = 5, 1 })
	f("quota_max needs a quota_per_sku", func(p *Policy) { p.Quota, p.QuotaMax = 5, 9 })
	f("quota_max must be from the quota, 5, to", func(p *Policy) { p.Quota, p.QuotaPerSKU, p.QuotaMax = 5, 1, 4 })
	f("quota_max must be from the quota", func(p *Policy) { p.Quota, p.QuotaPerSKU, p.QuotaMax = 5, 1, MaxQuota+1 })
	f("", func(p *Policy) { p.Quota, p.QuotaPerSKU, p.QuotaMax = 5, 1, 5 })

	match := func(want string, key Kind, m string) {
		t.Helper()
		f(want, func(p *Policy) { p.Key, p.Match = key, m })
	}
	match("match must be empty", Global, "x")
	match("", Merchant, "m1")
	match("match must consist", Merchant, "m1/c1")
	match("", Activity, "a1")
	match("", Caller, "m1/c1")
	match("match must be merchant/caller", Caller, "c1")
	match("match must be merchant/caller: the part before", Caller, "/c1")
	match("match must be merchant/caller: the part after", Caller, "m1/")
	match("match must be merchant/caller: the part after", Caller, "m1/c1/x")
	match("match must be activity/sku", SKU, "s")
	match("", SKU, "a/s")
	match("", User, "m1/用户/1")
	match("match must be merchant/user", User, "u1")
	match("match must be merchant/user: the part after the slash must be UTF-8", User, "m1/\xff")
	match("match must be merchant/user: the part after the slash must have no control", User, "m1/a\nb")
	match("match must be merchant/user: the part after the slash must be at most", User, "m1/"+strings.Repeat("u", 129))
	match("", IP, "192.0.2.1")
	match("", IP, "2001:db8::1")
	match("", IP, "2001:db8::/64")
	for _, bad := range []string{"x", "192.0.2.1/32", "192.0.2.0/24", "2001:db8::/48", "2001:db8::/128", "fe80::1%eth0", "192.0.2.1:80", "192.0.2.01"} {
		match("match must be an address", IP, bad)
	}
}

func TestValidateFindsWhatContradicts(t *testing.T) {
	f := func(want string, a, b Policy) {
		t.Helper()
		a.Name, b.Name = "a", "b"
		got := errorsOf(t, a, b)
		if want == "" && len(got) != 0 || want != "" && (len(got) != 1 || got[0] != want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	of := func(key Kind, match string, mode Mode) Policy {
		return Policy{Key: key, Match: match, Rate: 1, Burst: 1, Mode: mode}
	}
	f(`policies[1].match is missing: "a" is for every user already, so change that one, or name one user here`, of(User, "", Enforce), of(User, "", Shadow))
	f(`policies[1].key is global, like that of "a": there can be only one such policy, so change that one`, of(Global, "", Off), of(Global, "", Enforce))
	f(`policies[1].match is the same caller as that of policies[0] ("a")`, of(Caller, "m/c", Enforce), of(Caller, "m/c", Enforce))
	f("", of(Caller, "m/c", Enforce), of(User, "m/c", Enforce))
	f("", of(Caller, "", Enforce), of(Caller, "m/c", Enforce))

	same := `policies[1].match is the same ip as that of policies[0] ("a")`
	f(same, of(IP, "2001:db8::1", Enforce), of(IP, "2001:db8:0:0::2", Enforce))
	f(same, of(IP, "2001:db8::/64", Enforce), of(IP, "2001:DB8::9", Enforce))
	f(same, of(IP, "::ffff:192.0.2.1", Enforce), of(IP, "192.0.2.1", Enforce))
	f("", of(IP, "2001:db8::1", Enforce), of(IP, "2001:db8:0:1::1", Enforce))

	if got := errorsOf(t, good(nil), good(func(p *Policy) { p.Key = User })); len(got) != 1 ||
		got[0] != "policies[1].name is also the name of policies[0]" {
		t.Errorf("a name twice: %q", got)
	}
}

func TestValidateListsAllMistakesAtOnce(t *testing.T) {
	got := errorsOf(t, Policy{}, good(nil), Policy{Name: "?", Key: "?", Match: "?", Rate: -1, Burst: -1, Mode: "?"})
	want := []string{
		"policies[0].name is required", "policies[0].key is required", "policies[0].mode is required",
		"policies[0].rate must be above 0; ", "policies[0].burst must be at least 1: ",
		"policies[2].name must consist", "policies[2].key must be", "policies[2].mode must be",
		"policies[2].rate must be above 0", "policies[2].burst must be at least 1: ",
	}
	if len(got) != len(want) {
		t.Fatalf("got %d: %q", len(got), got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func TestL8_MistakesAreBounded(t *testing.T) {
	if got := errorsOf(t, make([]Policy, MaxPolicies)...); len(got) != MaxMistakes+1 ||
		got[MaxMistakes] != "policies have more mistakes than this list shows" {
		t.Errorf("got %d, the last %q", len(got), got[len(got)-1])
	}
	if got := errorsOf(t, make([]Policy, MaxPolicies+1)...); len(got) != 1 || got[0] != "policies must be at most 10000, not 10001" {
		t.Errorf("got %q", got)
	}
}

func TestTenThousandPolicies(t *testing.T) {
	doc := Document{Policies: make([]Policy, MaxPolicies)}
	for i := range doc.Policies {
		doc.Policies[i] = good(func(p *Policy) { p.Name, p.Match = fmt.Sprint("p", i), fmt.Sprintf("m/c%d", i) })
	}
	l := newLimiter(t, DefaultConfig(), doc, 1)
	d := l.Allow(&Request{Merchant: "m", Caller: "c7777"}, at(0))
	if !d.Allowed || d.Policy == nil || d.Policy.Name != "p7777" || d.Index != 7777 {
		t.Errorf("the policy of one of ten thousand: %+v", d)
	}
	if d := l.Allow(&Request{Merchant: "m", Caller: "other"}, at(0)); !d.Allowed || d.Policy != nil || d.Index != -1 {
		t.Errorf("a caller without a policy: %+v", d)
	}
}

func TestDocumentIsWrittenLikeTheContract(t *testing.T) {
	const text = `{"policies":[{"name":"caller","key":"caller","match":"m1/c1","rate":400,"burst":400,"mode":"enforce"}]}`
	var doc Document
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(); err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(doc)
	if err != nil || string(back) != text {
		t.Errorf("got %s, %v", back, err)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("a", "ip", "2001:db8::/64", 1.0, int64(1), "enforce", 3)
	f.Add("a", "user", "m/u", 1e-5, int64(6), "shadow", 1024)
	f.Add("", "sku", "a//s", math.Inf(1), int64(-1), "", 1)
	f.Fuzz(func(t *testing.T, name, key, match string, rate float64, burst int64, mode string, nodes int) {
		doc := Document{Policies: []Policy{{Name: name, Key: Kind(key), Match: match, Rate: rate, Burst: burst, Mode: Mode(mode)}}}
		small := Config{Users: 1, IPs: 1, SKUs: 1, Activities: 1, Merchants: 1, Callers: 1}
		l, err := New(small, nil, at(0))
		if err != nil {
			t.Fatal(err)
		}
		valid := doc.Validate() == nil && nodes >= 1 && nodes <= MaxNodes
		if err := l.Apply(doc, nodes, at(0)); (err == nil) != valid {
			t.Fatalf("Apply says %v, valid is %v", err, valid)
		}
		if !valid {
			return
		}
		lim := l.snapshot.Load().limits[0]
		if lim.burst < 1 || lim.interval < 1 || lim.window < lim.interval || lim.window > latest/2 {
			t.Errorf("%+v: burst %d, interval %d, window %d", doc.Policies[0], lim.burst, lim.interval, lim.window)
		}
	})
}
