// Package kafka is seckill.Queue on Apache Kafka, and on everything that speaks its protocol.
//
// It promises:
//   - A record whose done was called with nil is acknowledged by all in-sync replicas (acks=all, idempotent) and lies below
//     every End asked for later.
//   - done is called exactly once for each Put, whatever happens to the broker, the network or this queue, Close included.
//     The slot is given back right after done, so Reserve bounds the records whose fate is open, and a reserved slot never
//     meets a full client: the client's own limits lie above Slots.
//   - A record is never passed over. A group without committed offsets begins at the log's start. Between Poll and Commit no
//     rebalance takes a partition away, so only what this member owns is committed. What was polled and not committed comes
//     again: to the next Poll, or to whoever has the partition by then.
//   - What the broker lost shows. An end that moves back, a topic that was made anew, offsets that are missing when a partition
//     is read: each is an error of the call that met it, or is counted in Stats.
//
// It does not promise: that a failed Put wrote nothing (it may have, or may yet), an order among keys, or that a record comes only
// once. Nor can it see a leader that was deposed a moment ago and doesn't know it: its end may lie below what the new leader
// acknowledged to others. The database, not the queue, has the last word on what was sold.
//
// Events is seckill.Announcer: what other systems hear, as CloudEvents in binary mode, at least once (docs/events.md). It has a client
// of its own and asks the brokers for nothing before its first Announce, so that no sale waits for who listens to it.
//
// The producer and the admin calls share one client. The consumer is a client of its own, made at the first Poll, so that a
// process that never polls never joins the group.
package kafka
