package degrade

// Tier is the importance of a background job. When a resource is short, lower tiers lose it first.
// For visits, Class has this role.
type Tier uint8

// The tiers, the highest first.
const (
	Purchasing    Tier = iota + 1 // a purchase and its payment, and making an order from it
	OrderHandling                 // the work on existing orders, and the work that keeps the stock right
	Other                         // everything else: pages, events for other systems, housekeeping
)

// String is the tier for people.
func (t Tier) String() string {
	return [...]string{"", "purchase", "order handling", "everything else"}[t]
}
