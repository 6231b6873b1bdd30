// Package inventory knows who may have which unit. It keeps each sale item's stock in one Redis shard and changes it only
// through the Lua scripts in lua/, each call a batch.
//
// The equation it guards, per item and epoch:
//
//	total = available + held + sold
//
// Hold moves units from available to held, Settle from held to sold or back to available; Restock alone changes the total.
// Everything else (orders, buyers' rights, windows, prices) is unknown here: a hold is a name, a buyer and a quantity.
//
// Each shard carries its epoch, a closed mark and seq, the count of batches it has taken. A call names the epoch it was
// meant for and the highest seq this process has seen: a shard of another epoch refuses with ErrEpoch, a closed one with
// ErrClosed, one that shows less than was seen with ErrLost.
//
// What is not promised: Redis may forget. The database decides (see package seckill); this package only notices, and can
// be loaded anew under a higher epoch with Close, Load and Open.
package inventory
