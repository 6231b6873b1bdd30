// Package stocktest proves implementations of a sale's stock. Model is the oracle: a map and a
// mutex, simple enough to be right by reading. Exercise is the suite that the Model and every
// implementation pass: a table case per rule, and random sequences of calls, of holds in batches
// too, whose answers are compared with the Model's, one by one.
//
// It promises that what passes answers like the Model when called by one caller at a time. It says
// nothing about speed, about calls at the same moment, about failovers, or about the wire.
package stocktest
