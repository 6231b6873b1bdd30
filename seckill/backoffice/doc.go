// Package backoffice has the background work of a sale: it makes orders from promises, tells the
// stock what the store has decided, cancels unpaid orders, decides unfinished holds, rebuilds lost
// shards, and audits the stock.
//
//	barrier := backoffice.NewBarrier(queue, store, log)
//	worker := backoffice.NewWorker(stock, queue, store, log)
//	go barrier.Run(ctx)
//	go worker.Run(ctx)
//
// Each part has Run, which works until its context ends, and Step, which does what is due now. Only
// one goroutine may call them. Any number of processes may run the parts.
//
// A process works on the shards whose preferred partitions it has (Ownership). That only saves
// work. Safety doesn't depend on it: the store's four conditions (seckill.Store) hold for two
// processes on the same shard, too.
//
// It promises that no work is given up. If a server fails, a part tries again with back-off; only
// an error about a promise's own data parks that promise. A problem of one shard doesn't delay
// others.
//
// It does not promise an order among shards, or that a step runs only once: every step may be
// repeated.
package backoffice
