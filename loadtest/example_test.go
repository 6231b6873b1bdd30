package loadtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/penstock/penstock/loadtest"
)

// A crowd of thirty comes to a shop of five units that sells one too many. The answers to its
// buyers prove it.
func Example() {
	shop := httptest.NewServer(&carelessShop{units: 6, orders: make(map[string]string)})
	defer shop.Close()

	config := loadtest.DefaultConfig()
	config.Target, config.CallerKey = shop.URL, "caller-key"
	config.Activity, config.SKU = "618", "phone-x"
	config.Stock, config.PerUser, config.Price = 5, 1, 1999
	config.Buyers, config.Seed, config.Habits = 30, 618, loadtest.Habits{} // each presses once
	crowd, err := loadtest.NewCrowd(config)
	if err != nil {
		panic(err)
	}
	result, err := crowd.Run(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d buyers, %d orders, of which %d can be read\n", result.Served, result.Promised, result.Kept)
	for _, broken := range result.Broken() {
		fmt.Println("broken:", broken.Name)
	}
	// Output:
	// 30 buyers, 6 orders, of which 6 can be read
	// broken: no-oversell
}

// carelessShop has the part of the public contract for buyers who press once and don't pay.
type carelessShop struct {
	mu     sync.Mutex
	units  int               // guarded by mu
	orders map[string]string // guarded by mu: the documents
}

func (s *carelessShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if id, found := strings.CutPrefix(r.URL.Path, "/v1/orders/"); found {
		fmt.Fprint(w, s.orders[id])
		return
	}
	var purchase map[string]any
	if err := json.NewDecoder(r.Body).Decode(&purchase); err != nil || s.units == 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"type":"/problems/sold-out","title":"Sold out","status":409,"code":"sold-out"}`)
		return
	}
	s.units--
	id := fmt.Sprint("order-", s.units)
	purchase["order"], purchase["status"] = id, "pending_payment"
	document, err := json.Marshal(purchase)
	if err != nil {
		panic(err)
	}
	s.orders[id] = string(document)
	w.Header().Set("Location", "/v1/orders/"+id)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, s.orders[id])
}
