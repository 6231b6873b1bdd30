-- +goose Up

-- The Kafka cluster that has this installation's promises, by the id that Kafka gave it. The first worker
-- that reaches one writes it. A process that finds another cluster stops: it would read no promise of this
-- installation, and its sweeper would bury them all. An empty id is one that the owner has let go: the next
-- worker writes its own, and takes the topic as it is.
CREATE TABLE kafka_cluster (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id  text NOT NULL COLLATE "C"
);
