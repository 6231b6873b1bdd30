package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// Errors that callers may want to distinguish.
var (
	// ErrClosed means that the queue is closed or closing.
	ErrClosed = errors.New("kafka: queue closed")
	// ErrTooLarge means that Put got a value above MaxRecordBytes; nothing was sent.
	ErrTooLarge = errors.New("kafka: record too large")
	// ErrTimeout means that a record was not acknowledged within DeliveryTimeout. It may be
	// written.
	ErrTimeout = errors.New("kafka: not acknowledged in time")
	// ErrDown means that no partition can take anything now.
	ErrDown = errors.New("kafka: no partition can take anything")
	// ErrTopic means that the topic doesn't match the configuration.
	ErrTopic = errors.New("kafka: wrong topic")
	// ErrLayout means that the topic has fewer partitions than the books know.
	ErrLayout = fmt.Errorf("kafka: %w", seckill.ErrLayout)
)

// Class is the meaning of an error of Kafka for a record or a call.
type Class uint8

// The classes. For the caller of Put, the outcome of an error is always unknown, because an earlier
// attempt may have been written. The class decides what the queue does next, and what counts
// against a breaker.
const (
	// ClassNone means no error.
	ClassNone Class = iota
	// ClassUnknown means that the record may be written, now or later.
	ClassUnknown
	// ClassRefused means that the record is not written, and that the reason is the record or a
	// lack of room, not the partition.
	ClassRefused
	// ClassFailure means that the record is not written, and that the reason is the partition, the
	// topic or the rights.
	ClassFailure
	// ClassWait means that the broker isn't ready. The same call will succeed a little later.
	ClassWait
)

// String returns the class's name.
func (c Class) String() string {
	return [...]string{"none", "unknown", "refused", "failure", "wait"}[c]
}

// classOf returns the class of an error code of Kafka.
func classOf(code *kerr.Error) Class {
	switch code {
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
		kerr.UnsupportedForMessageFormat:
		return ClassRefused

	case kerr.CorruptMessage, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID,
		kerr.InvalidTopicException, kerr.InvalidRequiredAcks, kerr.NotEnoughReplicas, kerr.PolicyViolation,
		kerr.UnsupportedVersion, kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism,
		kerr.IllegalSaslState:
		return ClassFailure

	case kerr.LeaderNotAvailable, kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch,
		kerr.ReplicaNotAvailable, kerr.BrokerNotAvailable, kerr.ListenerNotFound, kerr.NotController,
		kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator,
		kerr.RebalanceInProgress, kerr.ThrottlingQuotaExceeded:
		return ClassWait
	}
	// NotEnoughReplicasAfterAppend, RequestTimedOut, OutOfOrderSequenceNumber, NetworkException,
	// KafkaStorageError, UnknownServerError, and all codes that a later version of Kafka adds.
	return ClassUnknown
}

// Classify returns the class of an error of this package.
func Classify(err error) Class {
	switch {
	case err == nil:
		return ClassNone
	case errors.Is(err, ErrTooLarge), errors.Is(err, kgo.ErrMaxBuffered):
		return ClassRefused
	case errors.Is(err, ErrDown), errors.Is(err, ErrTopic), errors.Is(err, ErrLayout):
		return ClassFailure
	}
	if code, ok := errors.AsType[*kerr.Error](err); ok {
		return classOf(code)
	}
	return ClassUnknown
}

// final reports whether an error from looking at the cluster means that the configuration is wrong,
// so that waiting doesn't help.
func final(err error) bool {
	if errors.Is(err, ErrTopic) || errors.Is(err, ErrLayout) || errors.Is(err, seckill.ErrForeign) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok { // TLS to a port without TLS
		return true
	}
	code, ok := errors.AsType[*kerr.Error](err)
	return ok && slices.Contains([]*kerr.Error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.ClusterAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.InvalidTopicException,
		kerr.InvalidReplicationFactor, kerr.InvalidPartitions, kerr.PolicyViolation,
	}, code)
}

// hungUp reports whether a broker ended the connection before its first answer, or during the
// login. A broker does this if only one side uses TLS or SASL. Some also do it after a wrong
// password, and while they stop.
func (c Config) hungUp(err error) bool {
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		return true
	}
	return c.SASL.Mechanism != MechanismNone && errors.Is(err, io.EOF)
}

// otherTopic reports whether an error may mean that the topic was deleted, or replaced by a new
// one.
func otherTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition) ||
		errors.Is(err, kerr.InconsistentTopicID)
}
