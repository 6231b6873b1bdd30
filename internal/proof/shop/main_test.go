package shop

import (
	"flag"
	"os"
	"testing"

	"github.com/penstock/penstock/internal/proof/servers"
)

var (
	measure  = flag.Bool("shop.measure", false, "measure, and print the table; it takes many minutes")
	rounds   = flag.Int("shop.rounds", 3, "how many turns each way takes")
	seconds  = flag.Int("shop.seconds", 5, "how long a turn takes")
	baseline = flag.String("shop.baseline", "", "another penstock binary, to compare the cost of an order with")
	rows     = flag.String("shop.rows", "", "only the rows whose name has this in it")
)

// A peer is this test binary, started with the peer's name in the environment.
const peerVariable = "PENSTOCK_SHOP_PEER"

func TestMain(m *testing.M) {
	if peer := os.Getenv(peerVariable); peer != "" {
		os.Exit(runPeer(peer))
	}
	os.Exit(servers.Main{M: m}.Run())
}
