// Package seckill has the words of a sale and its decisions: activities, orders, pages of the
// queue, payments, the catalog, and the interfaces Stock, Queue and Store on which a sale works.
// Package seckill/desk serves requests; package seckill/backoffice has the background work. A store
// calls the functions Decide… inside its transaction and writes their result:
//
//	changes := seckill.NewChanges()
//	accepted := seckill.DecideAccept(&page, input, changes)
//	// write changes in the same transaction
//
// A purchase takes a slot of the queue's bounded buffer and joins the line of its Redis node. A
// round of the line takes holds in the stock and puts a page of promises into the queue. The
// purchase is accepted when the page is acknowledged. A worker's transaction makes the orders and
// moves the position in the queue. A payment, a cancel or a timeout ends an order by one
// conditional update, with an outbox row in the same transaction; the relay tells the stock.
// ARCHITECTURE.md says what a crash leaves after each step, and which part repairs it.
//
// What it promises are the laws (docs/laws.md). The store decides every race, by primary key and
// under the stock row. The clocks of two machines are never compared. Nothing assumes that its node
// is the only one.
//
// It doesn't promise that buyers are served in the order of their arrival, or that a purchase with
// an unknown outcome happened.
//
// Invariants: nothing here starts a goroutine, waits, or knows HTTP, Redis, Kafka or SQL. Three
// kinds of errors are never mixed: *Refusal is a decision, *Failure means that nothing happened,
// *Unknown means that the outcome is unknown.
package seckill
