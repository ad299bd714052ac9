"""Declaring, counting, purging and deleting queues."""

from __future__ import annotations

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from celery_postgres.errors import PreconditionFailed
from tests.fixtures.waiting import eventually

from .inbox import Inbox, bodies_of, consumers, missing, refused, size

REDIS_QUEUES = "a queue is a list that exists while it holds something, without properties"


@pytest.mark.differs(redis=REDIS_QUEUES)
def test_passive_declaration_of_a_missing_queue_is_refused(connection, new_name):
    """A passive declaration finds what is there and creates nothing."""
    name = new_name()
    for _ in range(2):
        with refused(connection, 404) as channel:
            channel.queue_declare(queue=name, passive=True)


def test_declaration_is_idempotent(new_queue, publish, channel):
    """Declaring again keeps the queue and its messages, and reports them."""
    queue = new_queue()
    publish(queue, 1, 2)
    assert Queue(queue.name)(channel).queue_declare().message_count == 2
    assert bodies_of(queue, 2) == [1, 2]


@pytest.mark.parametrize("change", [{"durable": False}, {"max_length": 5}, {"message_ttl": 60}])
@pytest.mark.differs(redis=REDIS_QUEUES)
def test_different_declaration_is_refused_when_strict(broker, new_queue, change):
    """With `strict_declare`, as in AMQP, a declaration must equal the existing one."""
    queue = new_queue()
    options = {"strict_declare": True} if broker.ours else {}
    with broker.connection(transport_options=options) as connection, refused(connection, 406) as channel:
        Queue(queue.name, **change)(channel).queue_declare()


@pytest.mark.ours("an option of ours")
def test_different_declaration_is_accepted_by_default(new_queue, publish, channel):
    """A deployment with other queue arguments still starts; the messages stay."""
    queue = new_queue()
    publish(queue, 1)
    Queue(queue.name, max_length=5)(channel).declare()
    assert size(queue) == 1


def test_purge_answers_how_many_it_removed(new_queue, publish):
    """All that is ready goes, and the count is exact."""
    queue = new_queue()
    publish(queue, *range(7))
    assert queue.purge() == 7
    assert size(queue) == 0
    assert queue.purge() == 0
    assert queue.get() is None


def test_purge_leaves_what_is_unacknowledged(new_queue, publish, connection):
    """A message that a consumer holds is not purged."""
    queue = new_queue()
    publish(queue, "held", "purged")
    channel = connection.channel()
    held = queue(channel).get()
    assert held.payload == "held"
    assert queue.purge() == 1
    channel.close()
    eventually(lambda: size(queue) == 1)
    assert queue.get(no_ack=True).payload == "held"


def test_size_counts_what_is_ready(new_queue, publish):
    """Neither delivered nor acknowledged messages count."""
    queue = new_queue()
    publish(queue, *range(5))
    held = queue.get()
    assert size(queue) == 4
    held.ack()
    assert size(queue) == 4


@pytest.mark.differs(redis="consumers are not counted")
def test_consumers_are_counted(new_queue, connection, other_connection):
    """Every consumer of every connection counts until it cancels or its connection closes."""
    queue = new_queue()
    assert consumers(queue) == 0
    with Inbox(connection.channel(), queue):
        assert consumers(queue) == 1
        with Inbox(other_connection.channel(), queue):
            eventually(lambda: consumers(queue) == 2)
        eventually(lambda: consumers(queue) == 1)
    assert consumers(queue) == 0
    Inbox(other_connection.channel(), queue).consumer.consume()
    eventually(lambda: consumers(queue) == 1)
    other_connection.release()
    eventually(lambda: consumers(queue) == 0)


class TestDelete:
    """`Queue.delete` and its two conditions."""

    @pytest.mark.differs(redis="only queues bound by the same process are deleted")
    def test_deletes_the_queue_and_its_messages(self, new_queue, publish, connection):
        """Declared again, the queue is empty."""
        queue = new_queue()
        publish(queue, 1, 2)
        queue.delete()
        queue.declare()
        assert size(queue) == 0

    @pytest.mark.ours("what becomes of the consumers differs")
    def test_refused_deletion_changes_nothing(self, new_queue, publish, connection):
        """`if_empty` on a queue that is not: its consumers go on."""
        queue, got = new_queue(), []
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        with Consumer(channel, [queue], callbacks=[lambda _, message: got.append(message)]):
            publish(queue, 1, 2)
            while not got:
                connection.drain_events(timeout=10)
            with pytest.raises(PreconditionFailed):
                channel.queue_delete(queue.name, if_empty=True)
            got.pop().ack()
            while not got:
                connection.drain_events(timeout=10)
            assert got.pop().payload == 2

    @pytest.mark.differs(redis="the reply does not say")
    def test_answers_how_many_messages_went(self, new_queue, publish, connection):
        """The reply carries the count, and the name is free."""
        queue = new_queue()
        publish(queue, 1, 2)
        assert queue.delete() == 2
        assert missing(connection, queue.name)

    @pytest.mark.differs(redis="the condition is ignored")
    def test_refuses_when_not_empty(self, new_queue, publish, connection):
        """`if_empty` keeps a queue that has messages."""
        queue = new_queue()
        publish(queue, 1)
        with refused(connection, 406) as channel:
            channel.queue_delete(queue.name, if_empty=True)
        assert bodies_of(queue, 1) == [1]
        queue.delete(if_empty=True)
        assert missing(connection, queue.name)

    @pytest.mark.differs(redis="the condition is ignored")
    def test_refuses_when_in_use(self, new_queue, connection, other_connection):
        """`if_unused` keeps a queue that has consumers."""
        queue = new_queue()
        with Inbox(other_connection.channel(), queue), refused(connection, 406) as channel:
            channel.queue_delete(queue.name, if_unused=True)
        eventually(lambda: consumers(queue) == 0)
        queue.delete(if_unused=True)
        assert missing(connection, queue.name)

    def test_missing_queue_is_no_error(self, channel, new_name):
        """What is not there is deleted already."""
        channel.queue_delete(new_name())

    def test_binding_goes_with_the_queue(self, new_queue, producer, new_name):
        """A queue declared again under the same name is not bound as it was before."""
        exchange = Exchange(new_name(), type="direct")
        queue = new_queue(exchange=exchange, routing_key="key")
        queue.delete()
        producer.publish(1, exchange=exchange, routing_key="key")
        plain = new_queue(queue.name, exchange=None)
        producer.publish(2, exchange=exchange, routing_key="key")
        assert plain.get() is None


@pytest.mark.differs(redis="only fanout queues are deleted by themselves")
class TestAutoDelete:
    """Queues that go with their last consumer."""

    def test_goes_with_the_last_consumer(self, new_queue, connection, other_connection):
        """The first of two consumers to leave changes nothing."""
        queue = new_queue(auto_delete=True)
        with Inbox(connection.channel(), queue):
            with Inbox(other_connection.channel(), queue):
                pass
            assert not missing(connection, queue.name)
        eventually(lambda: missing(connection, queue.name))

    def test_goes_when_its_consumer_disconnects(self, new_queue, connection, other_connection):
        """A connection that closes takes its consumers along."""
        queue = new_queue(auto_delete=True)
        Inbox(other_connection.channel(), queue).consumer.consume()
        other_connection.release()
        eventually(lambda: missing(connection, queue.name))

    def test_stays_before_its_first_consumer(self, new_queue, publish, connection):
        """Without a consumer so far, the queue keeps what is published to it."""
        queue = new_queue(auto_delete=True)
        publish(queue, 1)
        assert bodies_of(queue, 1) == [1]
        assert not missing(connection, queue.name)


class TestExclusive:
    """Queues that belong to one connection."""

    @pytest.mark.differs(redis=REDIS_QUEUES)
    def test_is_locked_for_other_connections(self, new_queue, other_connection):
        """Others may not declare, read, purge or delete it."""
        queue = new_queue(exclusive=True)
        for operation in (
            lambda channel: channel.queue_declare(queue=queue.name, passive=True),
            lambda channel: Queue(queue.name, exclusive=True)(channel).queue_declare(),
            lambda channel: channel.basic_get(queue.name),
            lambda channel: Inbox(channel, queue).consumer.consume(),
            lambda channel: channel.queue_purge(queue.name),
            lambda channel: channel.queue_delete(queue.name),
        ):
            with refused(other_connection, 405) as channel:
                operation(channel)

    def test_serves_its_own_connection(self, new_queue, publish, connection):
        """Any channel of the connection may use it, and anybody may publish to it."""
        queue = new_queue(exclusive=True)
        publish(queue, 1)
        with Inbox(connection.channel(), queue) as inbox:
            assert inbox.take_bodies(1) == [1]

    def test_takes_messages_from_anybody(self, new_queue, connection, other_connection):
        """Publishing is not reserved to the holder."""
        queue = new_queue(exclusive=True)
        Producer(other_connection.channel()).publish(1, routing_key=queue.name)
        with Inbox(connection.channel(), queue) as inbox:
            assert inbox.take_bodies(1) == [1]

    @pytest.mark.differs(redis=REDIS_QUEUES)
    def test_goes_with_its_connection(self, broker, connection, new_name):
        """Another connection may have the name thereafter."""
        name = new_name()
        with broker.connection() as holder:
            Queue(name, exclusive=True)(holder.channel()).declare()
        eventually(lambda: missing(connection, name))
        Queue(name, exclusive=True)(connection.channel()).declare()


class TestServerNamed:
    """Queues whose name the broker chooses."""

    def test_gets_a_name_of_its_own(self, channel, publish):
        """Two declarations without a name are two queues."""
        one, two = (Queue("", exclusive=True)(channel) for _ in range(2))
        names = {queue.queue_declare().queue for queue in (one, two)}
        assert len(names) == 2
        assert "" not in names

    def test_receives_by_that_name(self, channel, publish):
        """The name serves as routing key, as for any queue."""
        queue = Queue("", exclusive=True, auto_delete=True)(channel)
        queue.declare()
        publish(queue, "reply")
        assert bodies_of(queue, 1) == ["reply"]


@pytest.mark.differs(redis="any name will do")
def test_reserved_name_is_refused(connection):
    """Names that begin with `amq.` belong to the broker."""
    with refused(connection, 403) as channel:
        Queue("amq.mine")(channel).queue_declare()


def test_queue_outlives_its_declarer(broker, new_name, connection: Connection):
    """A durable queue and its messages are there for those who come later."""
    name = new_name()
    with broker.connection() as declarer:
        channel = declarer.channel()
        queue = Queue(name, routing_key=name)(channel)
        queue.declare()
        Producer(channel).publish("later", routing_key=name)
    assert bodies_of(Queue(name)(connection.channel()), 1) == ["later"]
