"""A real Kafka on the loopback, from jars: for tests, for the demo, for work without Docker."""

from spark_ext.broker.cluster import Broker

__all__ = ["Broker"]
