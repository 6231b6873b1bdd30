package embedded

// WithSegmentBytes returns c with smaller segments.
func WithSegmentBytes(c Config, n int) Config {
	c.segmentBytes = n
	return c
}
