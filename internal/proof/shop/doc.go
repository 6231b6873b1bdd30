// Package shop measures a whole installation on real servers beside its peers, and prints the table
// of docs/performance.md: `make bench-shop`.
//
// Every process is one of its own: gateways, workers, Redis, Kafka, PostgreSQL, the peers, and wrk
// as the load. What an operation costs is the processor time that the operating system has counted
// for each of them, divided by the operations; it is steadier than a rate on a machine that others
// use, too. Ways that are compared take turns in one run, and medians of the turns are shown.
//
// The peers are bare (a fasthttp handler that answers a fixed refusal) and plain (the gateway that
// one would write first: one EVALSHA and one record a buyer, with the same libraries).
package shop
