// Package stocktest proves implementations of a sale's stock. Model is the oracle: a map and a
// mutex, simple enough to be right by reading. Exercise is the suite that the Model and every
// implementation pass. It has a table case per rule. It also makes random sequences of calls, with
// holds in batches too, and compares each answer with the Model's.
//
// It promises that an implementation that passes answers like the Model when called by one caller
// at a time. It says nothing about speed, concurrent calls, failovers, or the network.
package stocktest
