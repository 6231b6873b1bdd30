// Package embedded runs the parts for which Penstock otherwise needs servers: Redis, Kafka and a
// database, in one process and one data directory.
//
// It promises:
//   - Redis is miniredis, with the real scripts, and a clock that lets its keys expire. It is only
//     in memory: each start begins empty, and a rebuild fills it, as for every Redis that has
//     forgotten its data.
//   - Kafka is kfake, with the real client, and its log on disk. Acknowledged records survive kill
//     -9, and so do committed offsets; with Config.Durable they survive a power failure, too
//     (docs/adr/0006-embedded-durability.md).
//   - Only one process at a time can use the directory; a second one gets an error that names the
//     first. A directory that is not ours, or that a newer version wrote, is left as it is.
//   - No other process can connect: neither Kafka nor Redis has a port (use Parts.QueueConfig and
//     Parts.DialRedis). Redis needs a password, which is new at each start. Only its user can read
//     a directory that Open made.
//
// It does not promise replication, and it is not for load: kfake works in one goroutine. Its log
// keeps every record until a client deletes it (the queue of Parts.QueueConfig does), and never
// deletes by age, because only the client knows which records were processed.
//
// Layout of the directory:
//
//	lock          locked by the process that has the directory; its process id
//	format        the version of this layout
//	epoch         how often it was opened: the queue's leader epoch
//	queue/        kfake's log, offsets and topics
//	penstock.db   SQLite (opened by internal/sqlite, at Parts.DatabasePath)
package embedded
