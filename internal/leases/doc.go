// Package leases keeps the cluster's buckets in Redis: it is the limiter's Pool.
//
//	pool := leases.New(stock) // an *inventory.Stock lends its connection
//	limits, err := limiter.New(limiter.DefaultConfig(), pool, time.Now())
//
// All questions of one exchange go to Redis in one write, with a call of a script for each of a few
// hash tags, so that it also works on a Cluster. The script only uses Redis's clock.
//
// It promises that a bucket grants at most its burst and what its rate gives, over all nodes. A
// clock that is set back, or a server that has forgotten a bucket, gives no second burst. It
// doesn't promise that tokens whose answer was lost are ever used, so errors make limits stricter,
// never looser.
package leases
