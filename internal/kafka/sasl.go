package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Mechanism is a way to log in to a broker.
type Mechanism string

// The mechanisms. MechanismNone doesn't log in. MechanismPlain sends the password in the clear, so
// use it only with TLS. With the others, the broker proves that it knows the password, and somebody
// who reads the traffic doesn't learn it.
const (
	MechanismNone        Mechanism = ""
	MechanismPlain       Mechanism = "plain"
	MechanismScramSHA256 Mechanism = "scram-sha-256"
	MechanismScramSHA512 Mechanism = "scram-sha-512"
)

// SASL is how to log in to the brokers.
type SASL struct {
	Mechanism          Mechanism
	Username, Password string
}

// validate reports what is wrong with s.
func (s SASL) validate() error {
	switch s.Mechanism {
	case MechanismNone:
		if s.Username != "" || s.Password != "" {
			return errors.New("a user or a password is set, but no SASL mechanism")
		}
		return nil
	case MechanismPlain, MechanismScramSHA256, MechanismScramSHA512:
		if s.Username == "" || s.Password == "" {
			return fmt.Errorf("SASL mechanism %s needs a user and a password", s.Mechanism)
		}
		return nil
	}
	return fmt.Errorf("SASL mechanism %q is none of %s, %s and %s", s.Mechanism, MechanismPlain, MechanismScramSHA256, MechanismScramSHA512)
}

// mechanism returns s for the client; nil without a login.
func (s SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case MechanismPlain:
		return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()
	case MechanismScramSHA256:
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism()
	case MechanismScramSHA512:
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism()
	}
	return nil
}
