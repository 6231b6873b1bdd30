package kafka_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/internal/kafka"
)

func TestClassify(t *testing.T) {
	for err, want := range map[error]kafka.Class{
		nil:                         kafka.ClassNone,
		kafka.ErrTooLarge:           kafka.ClassRefused,
		kgo.ErrMaxBuffered:          kafka.ClassRefused,
		kerr.MessageTooLarge:        kafka.ClassRefused,
		kerr.NotEnoughReplicas:      kafka.ClassFailure,
		kafka.ErrDown:               kafka.ClassFailure,
		kerr.LeaderNotAvailable:     kafka.ClassWait,
		kerr.RequestTimedOut:        kafka.ClassUnknown,
		kafka.ErrTimeout:            kafka.ClassUnknown,
		kafka.ErrClosed:             kafka.ClassUnknown,
		errors.New("something new"): kafka.ClassUnknown,

		kerr.NotEnoughReplicasAfterAppend: kafka.ClassUnknown,
	} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("put: %w", err)
		}
		if got := kafka.Classify(wrapped); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
	}
}
