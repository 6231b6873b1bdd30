// Package inventory counts the units of items, and knows which of them are held for whom. It keeps
// the stock of many items in the shards of a Redis, and changes it only through the Lua scripts in
// lua/, each call a batch.
//
//	stock, err := inventory.Open(ctx, inventory.Config{Addrs: []string{"127.0.0.1:6379"}})
//	stock.Watch(refs) // the shards, under their epochs
//	if stock.SoldOut(ref, item, id) { … } // from memory
//	stock.Hold(ctx, calls) // one write for many buyers, items and shards
//
// The equation it guards, per item, shard and epoch:
//
//	total = available + held + sold
//
// Hold moves units from available to held, Settle from held to sold or back to available. Only
// Restock and the settlement of a withdrawal change the total. This package doesn't know orders,
// buyers' rights, windows or prices: a hold is a name, an item, a buyer and a quantity.
//
// Each shard carries its epoch, a closed mark and seq, the count of writes it has taken. A call
// names its epoch, and the highest seq that this process has seen. A shard of another epoch refuses
// with ErrEpoch, and a closed shard with ErrClosed. A shard whose seq is lower than that refuses
// with ErrLost.
//
// Errors have three kinds. ErrEpoch, ErrClosed, ErrLost and ErrInvalid are answers. *UnknownError
// means that the call may have taken effect; every call may be repeated. Any other error means that
// nothing happened.
//
// Refusing from memory costs nothing: watched shards are followed in memory (view.go). The memory
// includes which buyers have holds, so that the repeat of a key gets its order and no refusal.
//
// What is not promised. Redis may forget everything, and then the database decides (see package
// seckill). This package only notices the loss, and can be loaded again under a higher epoch with
// Close, Load and Open. Answers from memory may be a little old. After a unit came or went, they
// are old for the time of one message. If messages are lost, or only a name is new, they are old
// until the next poll. After 900 ms without news Redis is asked. A shard's keys never expire. An
// ended item stays until Forget drops it, and the log of names stays until a rebuild.
//
// The Redis user needs the commands that the scripts use, EVAL, EVALSHA, PING, INFO, WAIT, WAITAOF,
// CONFIG GET, CLUSTER SLOTS and SUBSCRIBE, the keys <prefix>:* and the channels <prefix>:crossings
// and <prefix>:rings. maxmemory-policy must be noeviction; with replicas see Config.MaxReplicaLag.
//
// Files: stock.go (Stock, finds), round.go (holds), calls.go (the other calls), rebuild.go, open.go
// (start and stop), servers.go (the state of the servers, and lanes), watch.go, view.go, items.go
// and filter.go (memory), shard.go (the wire), lua/ (the scripts; lua/shard.lua first). The model
// and the suite are in internal/proof/stocktest.
package inventory
