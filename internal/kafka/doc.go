// Package kafka is seckill.Queue on Apache Kafka, and on everything that speaks its protocol.
//
//	q, err := kafka.Open(ctx, kafka.Config{Brokers: brokers, Worker: true}, store)
//	...
//	defer q.Close(ctx)
//
// It promises:
//   - A record whose done was called with nil is acknowledged by all in-sync replicas (acks=all,
//     idempotent) and lies below every marker of a Mark that is called later.
//   - done is called exactly once for each Put, within DeliveryTimeout, whatever happens to the
//     broker, the network or this queue, Close included. The slots are given back right after done,
//     so that Reserve bounds the promises whose fate is open.
//   - A partition that is sick costs the others StallAfter once, and no record (L10). All share a
//     client until one fails a record or is slow, and have one each until all are well again
//     (carrier.go); pages go round the sick one, to partitions that are well. Partitions tells how
//     each is. Reserve refuses only where all of them are down.
//   - No record is passed over. Partitions are read from the positions in the books (Books), with
//     their leader epochs: a log that lost its tail is read from where it parts from the one that
//     was read, or from its start (KIP-320, place.judge). The group says which partitions are
//     whose, and no more. Its offsets are a copy for tools.
//   - The queue opens and works while servers are away, as far as that goes. Problems says what is
//     missing. What the configuration has wrong is an error of Open, where it is known by then.
//
// It does not promise:
//   - that a failed Put wrote nothing: it may have, or may yet,
//   - an order among records, or that a record comes only once,
//   - that a haul can be committed: after a rebalance or a restored database the store refuses it,
//     and Rewind goes back to what the store has.
//
// Invariants:
//   - Workers and barriers know a partition before any gateway puts into it, because a gateway puts
//     only into those that the books know.
//   - A topic that was made anew is put into only when the books know its id.
//   - A marker is written only after the books were read anew.
//
// Events is seckill.Announcer: what other systems hear, as CloudEvents in binary mode, at least
// once (docs/events.md). It has a client of its own and asks the brokers for nothing before its
// first Announce, so that no sale waits for it.
package kafka
