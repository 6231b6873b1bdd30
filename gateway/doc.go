// Package gateway is the public listener: only HTTP is here. It decodes a request, asks a Gate and
// package seckill, and encodes the answer. No decision about a sale is made here.
//
// A request's path:
//   - The listener takes the connection. It survives a lack of file descriptors. It knows every
//     connection, so a shutdown takes a bounded time.
//   - fasthttp reads the request within the limits of Config.
//   - handle gives it an exchange from the pool and a request id.
//   - A request head that two servers could read differently is refused. The route is matched.
//   - The in-flight limit admits it, and the caller key is looked up in the catalog.
//   - Headers and body are decoded; the answer lists all mistakes at once.
//   - The Gate (limits, switches, shedding) admits it, and Sales decides.
//   - The answer is appended to a buffer and copied into the response.
//
// Package problem writes every answer that isn't a success, including those that fasthttp would
// make itself.
//
// Nothing of a request is kept: fasthttp uses its buffers again as soon as the handler returns.
// Strings in a seckill.Purchase point into them (and into the exchange's JSON parser); the contract
// of Purchase allows that. Everything else that is passed on (order ids, payments) is copied.
// RequestCtx never leaves this package and is never used as a context.Context: each request has its
// own deadline, whose timer is made only when something waits for it.
//
// Invariants:
//   - a request is answered, or its connection is closed; a panic costs one request;
//   - a refusal from memory allocates one small object here (the request's context), whatever the
//     refusal;
//   - every limit is a field of Config and a number in Stats (L8). A request or connection above a
//     limit is answered 503, 413, 408 or 431, with a problem document. Only connections that arrive
//     faster than the lobby can answer are closed without an answer;
//   - clients can't fill the log: each kind of message is written at most once in ten seconds, with
//     a count of the rest.
//
// What is not promised: a client that goes away is not noticed before its answer is written;
// Shutdown leaves handlers that are still running when its context ends to their own deadlines.
package gateway
