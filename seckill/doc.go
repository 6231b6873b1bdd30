// Package seckill sells: activities, purchases, orders, and the work behind them.
//
// A purchase (Desk.Buy) takes a slot in the queue's bounded buffer, then a hold in the stock, then puts its record into the slot;
// the acknowledged record is the promise, and the receipt is given within the accept deadline. A Worker makes orders of
// records. A payment, a cancel or a timeout ends an order in the store, each by one conditional update, with an outbox row in the same
// transaction; the Relay tells the stock. Who repairs a crash, after each step:
//
//	after                               stock    queue  store         who repairs, how
//	slot taken                          -        -      -             nobody needs to: slots live in memory
//	hold                                fresh    -      -             the buyer's repeat, or the Sweeper
//	record put, not acknowledged        fresh    maybe  -             the same
//	acknowledged, 202 sent or lost      fresh    yes    -             the Worker, after any restart
//	order committed, offset not         fresh    yes    order         redelivery, which finds the row
//	offset committed, hold unconfirmed  fresh    yes    order         the Sweeper finds the order and confirms
//	order ended, with its outbox row    ordered  -      ended         the Relay settles, then deletes the row
//	settled, outbox row not deleted     marker   -      ended         the Relay again: settling twice does nothing
//	stock forgot                        -        any    any           the Rebuilder, from store and queue
//
// What it promises are the laws L1 to L8 (docs/laws.md). The store decides every race, by primary key and under the item's
// row; no two machines' clocks are compared; nothing assumes that it is the only node.
//
// What it doesn't promise: an order of arrival among buyers, or that a purchase answered with an unknown outcome happened.
//
// Three kinds of no are never mixed: *Refusal is a decision, *Failure means that nothing happened, *Unknown that it may have.
package seckill
