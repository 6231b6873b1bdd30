// Package shop measures a whole installation on real servers beside its peers, and prints the table
// of docs/performance.md: `make bench-shop`.
//
// Everything runs in its own process: gateways, workers, Redis, Kafka, PostgreSQL, the peers, and
// wrk as the load. The cost of an operation is the processor time that the operating system has
// counted for each of them, divided by the operations. On a shared machine it is steadier than a
// rate. The compared ways take turns in one run, and medians of the turns are shown.
//
// The peers are bare (a fasthttp handler that answers a fixed refusal) and plain (the gateway that
// one would write first: one EVALSHA and one record a buyer, with the same libraries).
package shop
