// Package inventory knows who may have which unit. It keeps the stock of many items in the shards
// of a Redis, and changes it only through the Lua scripts in lua/, each call a batch.
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
// Hold moves units from available to held, Settle from held to sold or back to available. Restock
// and a withdrawal's settle alone change the total. Everything else (orders, buyers' rights,
// windows, prices) is unknown here: a hold is a name, an item, a buyer and a quantity.
//
// Each shard carries its epoch, a closed mark and seq, the count of writes it has taken. A call
// names the epoch it was meant for and the highest seq this process has seen: a shard of another
// epoch refuses with ErrEpoch, a closed one with ErrClosed, one that shows less than was seen with
// ErrLost.
//
// Errors have three kinds. ErrEpoch, ErrClosed, ErrLost and ErrInvalid are answers. *UnknownError
// means that the call may have taken effect; every call may be repeated. Any other error means that
// nothing happened.
//
// Sold-out costs nothing: watched shards are followed in memory (view.go), which buyers have holds
// included, so that a repeat of a key is never refused in place of its order.
//
// What is not promised. Redis may forget: the database decides (see package seckill). This package
// only notices, and can be loaded anew under a higher epoch with Close, Load and Open. What is
// answered from memory may be behind: by a message's way where a unit came or went, by a poll where
// messages are lost or a name came without a crossing, and by 900 ms where nothing at all is heard;
// then Redis is asked. A shard's keys never expire: an item that is over stays until Forget drops
// it, and the log of names until a rebuild.
//
// The Redis user needs the commands that the scripts use, EVAL, EVALSHA, PING, INFO, WAIT, WAITAOF,
// CONFIG GET, CLUSTER SLOTS and SUBSCRIBE, the keys <prefix>:* and the channels <prefix>:crossings
// and <prefix>:rings. maxmemory-policy must be noeviction; with replicas see Config.MaxReplicaLag.
//
// Files: stock.go (Stock, finds), round.go (holds), calls.go (the other calls), rebuild.go, open.go
// (start and stop), servers.go (health and lanes), watch.go, view.go, items.go and filter.go
// (memory), shard.go (the wire), lua/ (the scripts; lua/shard.lua first). The model and the suite
// are in internal/proof/stocktest.
package inventory
