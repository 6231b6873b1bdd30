package limiter_test

import (
	"fmt"
	"time"

	"github.com/penstock/penstock/limiter"
)

// A user may buy twice in a row, and then once in five seconds. All users of a merchant together
// have a limit of their own.
func Example() {
	now := time.Date(2026, 11, 11, 20, 0, 0, 0, time.UTC)
	limits, err := limiter.New(limiter.DefaultConfig(), nil, now)
	if err != nil {
		panic(err)
	}
	err = limits.Apply(limiter.Document{Policies: []limiter.Policy{
		{Name: "per-user", Key: limiter.User, Rate: 0.2, Burst: 2, Mode: limiter.Enforce},
		{Name: "per-merchant", Key: limiter.Merchant, Rate: 1000, Burst: 1000, Mode: limiter.Enforce},
	}}, 1, now)
	if err != nil {
		panic(err)
	}
	ask := func(user string) {
		d := limits.Allow(&limiter.Request{Merchant: "acme", Caller: "web", User: user}, now)
		if d.Allowed {
			fmt.Printf("%s: allowed, %d of %d left by %s\n", user, d.Remaining, d.Limit, d.Policy.Name)
			return
		}
		fmt.Printf("%s: refused by %s, again in %v\n", user, d.Policy.Name, d.RetryAfter)
	}
	ask("u-1")
	ask("u-1")
	ask("u-1")
	ask("u-2")
	now = now.Add(5 * time.Second)
	ask("u-1")
	// Output:
	// u-1: allowed, 1 of 2 left by per-user
	// u-1: allowed, 0 of 2 left by per-user
	// u-1: refused by per-user, again in 5s
	// u-2: allowed, 1 of 2 left by per-user
	// u-1: allowed, 0 of 2 left by per-user
}
