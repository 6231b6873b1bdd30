// Package embedded runs the parts that Penstock otherwise finds on servers: Redis, Kafka and a
// database, in one process and one data directory.
//
// It promises:
//   - Redis is miniredis, with the real scripts, and a clock that moves its expiries. It is memory:
//     each start begins empty, and is filled by the rebuild like any Redis that forgot.
//   - Kafka is kfake, with the real client, and its log on disk. What it acknowledged is there
//     after kill -9, committed offsets too; with Config.Durable also after a power failure
//     (docs/adr/0006-embedded-durability.md).
//   - One process at a time has the directory; the second one is told who has it. A directory that
//     is not ours, or that a newer version wrote, is left as it is.
//   - Nobody else gets in: neither Kafka nor Redis has a port (Parts.QueueConfig and
//     Parts.DialRedis know the way). Redis wants a password that is made anew at each start. A
//     directory that Open made is its user's alone.
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
