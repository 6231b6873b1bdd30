// Package kafka is seckill.Queue on Apache Kafka, and on other servers with its protocol.
//
//	q, err := kafka.Open(ctx, kafka.Config{Brokers: brokers, Worker: true}, store)
//	...
//	defer q.Close(ctx)
//
// It promises:
//   - A record whose done was called with nil is acknowledged by all in-sync replicas (acks=all,
//     idempotent) and every marker of a later Mark comes after it.
//   - done is called exactly once for each Put, within DeliveryTimeout, whatever happens to the
//     broker, the network or this queue, even after Close. The slots are given back right after
//     done, so that Reserve bounds the promises without an outcome.
//   - A partition that is sick costs the others StallAfter once, and no record (L10). All
//     partitions share a client until one is slow or fails a record. Then each has its own client
//     until all are healthy again (carrier.go), and pages go to healthy partitions. Partitions
//     returns the state of each. Reserve refuses only if all of them are down.
//   - No record is skipped. Partitions are read from the positions in the books (Books), with their
//     leader epochs. A log that lost its tail is read again from the place where it differs from
//     what was read, or from its start (KIP-320, place.judge). The group only assigns partitions.
//     Its offsets are a copy for tools.
//   - The queue opens, and works as far as possible, while servers can't be reached. Problems says
//     what is missing. A mistake in the configuration is an error of Open, if it can be found so
//     early.
//
// It does not promise:
//   - that a failed Put wrote nothing: it may have written, or may still write,
//   - an order among records, or that a record comes only once,
//   - that a haul can be committed: after a rebalance or a restored database the store refuses it,
//     and Rewind goes back to the store's positions.
//
// Invariants:
//   - Workers and barriers know a partition before any gateway puts into it, because a gateway only
//     uses partitions that the books know.
//   - Records are put into a new topic only when the books know its id.
//   - A marker is written only after the books were read again.
//
// Events is seckill.Announcer: events for other systems, as CloudEvents in binary mode, at least
// once (docs/events.md). It has its own client and asks the brokers for nothing before its first
// Announce, so that no sale waits for it.
package kafka
