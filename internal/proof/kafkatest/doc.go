// Package kafkatest has the suite that every broker of Penstock must pass: kfake in the tests of
// package kafka and of package embedded, Apache Kafka in the end-to-end tests.
//
// It knows the broker only through the protocol, so it tests a broker that works. Package kafka
// tests faults of a broker, with kfake. Each test makes its own topics and groups, and leaves them.
package kafkatest
