package inventory

import "context"

// HashName is hashName, for tests outside.
func HashName(name string) uint64 { return hashName(name) }

// HoldBatch takes holds in one call, as a batch does.
func (s *Stock) HoldBatch(ctx context.Context, ref Ref, holds []Hold, limits []int) ([]Grant, error) {
	in := make([]holdIn, len(holds))
	for i := range in {
		in[i] = holdIn{holds[i], limits[i]}
	}
	out := make([]Grant, len(holds))
	return out, s.hold(ctx, ref, in, out)
}
