package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// metadataMinAge is the shortest time after which a client asks again for a partition's new leader.
// Its default is five seconds, but buyers wait only two.
const metadataMinAge = 250 * time.Millisecond

// clientOptions returns the options of every client of this package.
func (c Config) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ClientID("penstock"),
		kgo.DisableClientMetrics(), // our own metrics are in Stats
		kgo.SeedBrokers(c.Brokers...),
		kgo.WithLogger(clientLog{c.Logger}),
		kgo.DialTimeout(c.DialTimeout),
		kgo.RequestTimeoutOverhead(c.RequestTimeout),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.MetadataMaxAge(time.Minute),
	}
	if c.Dial != nil {
		opts = append(opts, kgo.Dialer(c.Dial))
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	if m := c.SASL.mechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return opts
}

// topicSpec has the settings of a topic that is made if it is missing; an existing topic keeps its
// own.
type topicSpec struct {
	name        string
	partitions  int
	replication int // 0: three, or the number of brokers if that is less
	minInSync   int // 0: two if there are three or more replicas, otherwise 1
	settings    map[string]string
	mustExist   bool // do not make it; another process will
}

// retentionMS is a Retention in the form of a topic's setting.
func retentionMS(d time.Duration) string {
	if d == KeepForever {
		return "-1"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// findOrMake returns the topic as the cluster knows it. If two processes find it missing, one of
// them makes it; each learns whether it was the one.
func (t topicSpec) findOrMake(ctx context.Context, admin *kadm.Client) (_ kadm.TopicDetail, made bool, err error) {
	for asked := false; ; {
		listed, err := admin.ListTopics(ctx, t.name)
		if err != nil {
			return kadm.TopicDetail{}, made, fmt.Errorf("kafka: look for topic %s: %w", t.name, err)
		}
		topic := listed[t.name]
		switch {
		case topic.Err == nil && len(topic.Partitions) > 0:
			return topic, made, nil
		case topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) && !kerr.IsRetriable(topic.Err):
			return kadm.TopicDetail{}, made, fmt.Errorf("kafka: look for topic %s: %w", t.name, topic.Err)
		case t.mustExist && errors.Is(topic.Err, kerr.UnknownTopicOrPartition):
			return kadm.TopicDetail{}, false, fmt.Errorf("kafka: topic %s isn't there, a worker will make it: %w", t.name, topic.Err)
		case !asked && errors.Is(topic.Err, kerr.UnknownTopicOrPartition):
			if made, err = t.make(ctx, admin); err != nil {
				return kadm.TopicDetail{}, false, err
			}
			asked = true
		}
		// It was made, but not all brokers know it yet.
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return kadm.TopicDetail{}, made, fmt.Errorf("kafka: wait for topic %s: %w", t.name, err)
		}
	}
}

// logAppendTime makes the brokers write the time of a record, instead of the process that put it:
// brokers refuse a record that is an hour ahead, and delete records by their age.
const logAppendTime = "LogAppendTime"

// make makes the topic, and reports whether it did: another process may have been first.
func (t topicSpec) make(ctx context.Context, admin *kadm.Client) (made bool, err error) {
	replication, minInSync := t.replication, t.minInSync
	if replication == 0 {
		brokers, err := admin.ListBrokers(ctx)
		if err != nil {
			return false, fmt.Errorf("kafka: count the brokers: %w", err)
		}
		replication = max(1, min(3, len(brokers)))
	}
	if minInSync == 0 {
		minInSync = wantInSync(replication)
	}
	set := func(v string) *string { return &v }
	settings := map[string]*string{
		"min.insync.replicas":            set(strconv.Itoa(minInSync)),
		"unclean.leader.election.enable": set("false"),
		"message.timestamp.type":         set(logAppendTime),
	}
	for key, value := range t.settings {
		settings[key] = &value
	}
	_, err = admin.CreateTopic(ctx, int32(t.partitions), int16(replication), settings, t.name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return false, fmt.Errorf("kafka: make topic %s: %w", t.name, err)
	}
	return err == nil, nil
}

// wantInSync is the number of replicas that an acknowledgement should need: all but one, if there
// are three or more.
func wantInSync(replication int) int {
	if replication >= 3 {
		return 2
	}
	return 1
}

// replicas returns the smallest number of replicas that a partition of the topic has. Partitions
// without an answer don't count.
func replicas(topic kadm.TopicDetail) int {
	fewest := 0
	for _, p := range topic.Partitions {
		if n := len(p.Replicas); n > 0 && (fewest == 0 || n < fewest) {
			fewest = n
		}
	}
	return fewest
}

// topicSettings reads a topic's configuration.
func topicSettings(ctx context.Context, admin *kadm.Client, name string) (map[string]string, error) {
	configs, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("kafka: read the configuration of topic %s: %w", name, err)
	}
	config, err := configs.On(name, nil)
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: read the configuration of topic %s: %w", name, err)
	}
	settings := make(map[string]string, len(config.Configs))
	for _, c := range config.Configs {
		settings[c.Key] = c.MaybeValue()
	}
	return settings, nil
}

// checkInSync refuses a topic whose acknowledgements need fewer replicas than required.
func (t topicSpec) checkInSync(topic kadm.TopicDetail, settings map[string]string) error {
	replication, want := replicas(topic), t.minInSync
	if want == 0 {
		want = wantInSync(replication)
	}
	text, told := settings["min.insync.replicas"]
	if !told {
		return nil
	}
	have, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("kafka: topic %s: min.insync.replicas: %w", t.name, err)
	}
	if have < want {
		return fmt.Errorf("%w: %s has min.insync.replicas %d with %d replicas, so an acknowledgement may come from fewer than %d: "+
			"raise it in the topic's configuration", ErrTopic, t.name, have, replication, want)
	}
	return nil
}

// leastRetention is the shortest retention that gives an operator time to start workers again.
const leastRetention = 24 * time.Hour

// unsafeSettings describes which of a topic's settings are not safe for production. policy is the
// cleanup policy that it should have.
func unsafeSettings(topic kadm.TopicDetail, settings map[string]string, policy string) []string {
	var out []string
	say := func(format string, args ...any) {
		out = append(out, "topic "+topic.Topic+": "+fmt.Sprintf(format, args...))
	}
	if n := replicas(topic); n < 3 {
		say("%d of 3 replicas: if one disk is lost, its records are lost; if one broker restarts, its partitions stand still", n)
	}
	if v := settings["min.insync.replicas"]; v == "1" {
		say("min.insync.replicas is 1: an acknowledgement means a single disk")
	}
	if settings["unclean.leader.election.enable"] == "true" {
		say("unclean.leader.election.enable is true: an election may forget what was acknowledged")
	}
	if v, told := settings["message.timestamp.type"]; told && v != logAppendTime {
		say("message.timestamp.type is %s, should be %s: records with a wrong clock are refused, or deleted early", v, logAppendTime)
	}
	if v, told := settings["cleanup.policy"]; told && v != policy {
		say("cleanup.policy is %s, should be %s", v, policy)
	}
	if ms, err := strconv.ParseInt(settings["retention.ms"], 10, 64); err == nil && policy == "delete" && ms >= 0 {
		if d := time.Duration(ms) * time.Millisecond; d < leastRetention {
			say("retention.ms is %v: older records are deleted, even if nobody has read them", d)
		}
	}
	return out
}
