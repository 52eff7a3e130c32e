"""Faust's own acknowledgement put back into our consumer, to see that the fault tests notice."""

from faust.transport.drivers import aiokafka as driver

from streams.runtime.consumer import SafeConsumer


class StockConsumer(SafeConsumer):
    """Commits as Faust does: over what is not finished, where that is at the head."""

    ack = driver.Consumer.ack
    _filter_tps_with_pending_acks = driver.Consumer._filter_tps_with_pending_acks
    _new_offset = driver.Consumer._new_offset
    _should_commit = driver.Consumer._should_commit
    _commit_offsets = driver.Consumer._commit_offsets
