// Package problem is the catalogue of all answers that aren't successes, for both listeners: each
// public code with its status, a text for people, and what a client and an operator should do about
// it. It is the only place that has text for people outside, and the only writer of
// application/problem+json (RFC 9457).
//
// What holds:
//   - A code has exactly one status and one title; neither ever changes.
//   - Every code that package seckill answers is here.
//   - A body made by Append is valid JSON and UTF-8, whatever bytes the problem has.
//   - The text of an error that isn't a *seckill.Refusal never leaves the process.
//
// What is not here: HTTP headers. The listeners write them, from Entry.Status and
// Problem.RetryAfter. Everything exported is safe for concurrent use; the catalogue never changes.
package problem
