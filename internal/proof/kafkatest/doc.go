// Package kafkatest has what every broker must pass that carries Penstock's promises: kfake in the
// tests of package kafka and of package embedded, Apache Kafka in the end-to-end tests.
//
// It knows the broker only through the protocol, so it tests what a broker does by itself; what
// happens when a broker misbehaves is tested with kfake's faults, in package kafka. Each test makes
// topics and groups of its own, and leaves them.
package kafkatest
