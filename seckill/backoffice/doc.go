// Package backoffice is what works by itself behind a sale: it makes orders of promises, tells the
// stock what the store has decided, ends orders that nobody pays, decides holds that nobody
// finished, writes lost shards anew, and compares the books.
//
//	barrier := backoffice.NewBarrier(queue, store, log)
//	worker := backoffice.NewWorker(stock, queue, store, log)
//	go barrier.Run(ctx)
//	go worker.Run(ctx)
//
// Each part has Run, which works until its context ends, and Step, which does what is due now. One
// goroutine calls either of them. Any number of processes may run the parts.
//
// A process works on the shards whose preferred partitions it has (Ownership). That spares work.
// Safety never leans on it: two that work on the same shard decide the same, by the store's four
// conditions (seckill.Store).
//
// It promises that nothing is given up. A server that fails is waited for, with back-off; only an
// error that names a promise's own data parks that promise. What concerns one shard keeps no other
// waiting.
//
// It does not promise an order among shards, nor that something is done once: every step may be
// repeated.
package backoffice
