package kafka_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
)

// TestSASL logs in with every mechanism, and is refused with a wrong password and without one.
func TestSASL(t *testing.T) {
	for mechanism, fake := range map[kafka.Mechanism]string{
		kafka.MechanismPlain: "PLAIN", kafka.MechanismScramSHA256: "SCRAM-SHA-256", kafka.MechanismScramSHA512: "SCRAM-SHA-512",
	} {
		t.Run(string(mechanism), func(t *testing.T) {
			_, cfg := broker(t, kfake.EnableSASL(), kfake.User(fake, "penstock", "s3cret"))
			cfg.SASL = kafka.SASL{Mechanism: mechanism, Username: "penstock", Password: "s3cret"}
			q, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Close(t.Context()); err != nil {
				t.Error(err)
			}
			cfg.SASL.Password = "guess"
			refuses(t, cfg) // kfake hangs up; a real broker says why
			cfg.SASL = kafka.SASL{}
			refuses(t, cfg)
		})
	}
}

func refuses(t *testing.T, cfg kafka.Config) {
	t.Helper()
	if q, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books)); err == nil {
		_ = q.Close(t.Context())
		t.Errorf("let in with %+v", cfg.SASL)
	}
}

func TestValidateSASL(t *testing.T) {
	f := func(sasl kafka.SASL, want string) {
		t.Helper()
		err := kafka.Config{Brokers: []string{"b:9092"}, SASL: sasl}.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", sasl, err, want)
		}
	}
	f(kafka.SASL{}, "")
	f(kafka.SASL{Mechanism: kafka.MechanismPlain, Username: "u", Password: "p"}, "")
	f(kafka.SASL{Mechanism: kafka.MechanismScramSHA256, Username: "u"}, "scram-sha-256 needs a user and a password")
	f(kafka.SASL{Mechanism: kafka.MechanismScramSHA512, Password: "p"}, "scram-sha-512 needs a user and a password")
	f(kafka.SASL{Username: "u"}, "no SASL mechanism")
	f(kafka.SASL{Mechanism: "gssapi", Username: "u", Password: "p"}, `"gssapi" is none of plain, scram-sha-256 and scram-sha-512`)
}
