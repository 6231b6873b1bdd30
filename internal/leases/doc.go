// Package leases keeps the cluster's buckets in Redis: it is the limiter's Pool.
//
//	pool := leases.New(stock) // an *inventory.Stock lends its connection
//	limits, err := limiter.New(limiter.DefaultConfig(), pool, time.Now())
//
// All that is asked at once goes to Redis in one write, a call of a script for each of a few hash
// tags, so that it works on a Cluster too. The script decides by Redis's clock alone.
//
// It promises that a bucket grants at most its burst and what its rate gives, whoever asks, and
// that a clock that is set back or a server that has forgotten a bucket gives no second burst. It
// doesn't promise that tokens whose answer was lost are ever used: that is the strict side.
package leases
