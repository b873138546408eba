"""Runs of the real engine on a deterministic model of Kafka, time and the outside world."""
