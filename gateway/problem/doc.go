// Package problem is the one catalogue of what both listeners say when they don't do what was
// asked: each public code with its status, its words for a person, and what a client and an
// operator should do about it. It is the only place where text for people outside is written, and
// the only writer of application/problem+json (RFC 9457).
//
// What holds:
//   - A code has exactly one status and one title, for ever.
//   - Every code that package seckill answers is here.
//   - A body made by Append is valid JSON and UTF-8, whatever bytes went in.
//   - The text of an error that isn't a *seckill.Refusal never leaves the process.
//
// What is not here: HTTP headers. The listeners write them, from Entry.Status and
// Problem.RetryAfter. Everything exported is safe for concurrent use; the catalogue never changes.
package problem
