// Package webhook tells receivers outside of the installation what happens in it, by signed HTTP
// posts that are repeated until they are accepted.
//
//	s := webhook.New(config, owners, board, log)
//	go s.Run(ctx)
//	err := s.Apply(document)       // which receivers there are; again with each change
//	s.Send(webhook.Event{…})       // never blocks
//
// What it promises:
//
//   - A receiver gets its events in order, one at a time. An event is repeated with a growing,
//     jittered pause until it is answered 2xx, finally refused (a 4xx other than 408, 425 and 429),
//     or older than Config.GiveUp.
//   - Each receiver has a lane: a bounded queue and a goroutine of its own. A receiver that hangs
//     or refuses never delays other receivers or the caller of Send. A full lane drops its oldest
//     event, and counts it.
//   - Of the nodes that see an event, only its owner sends it. The others wait, and take over if
//     the owner dies. While ownership can't be asked for, each node sends.
//
// What it does not promise: exactly-once. A receiver may get an event twice (after a lost answer,
// or while ownership can't be asked for), and recognizes it by its id. Events that wait are in
// memory: when all nodes stop, they are forgotten.
//
// A post is signed like a payment notice: Penstock-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256
// of "t.body"> by the receiver's secret. Redirects are not followed, proxies of the environment are
// not used, and the address that a name stands for is checked when it is dialled: see Policy.
package webhook
