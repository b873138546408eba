"""Which sagas are in flight, and in which version of which flow: what one needs to know before a version is deleted.

A saga moves only when a service reads a record of it, an outside call of it is answered, or a timer of it fires. So it
is in flight for as long as there is any of

- a record of it that somebody who hears it in its flow has not committed,
- an outside call of it that waits, or a timer of it that is set (tables `calls` and `timers`),
- a row of it of which its table says that it has not ended (`ended=`), as when it waits for a customer or an operator.

That is the same for every flow, choreographed or not. Terminal events would not do: what a customer is told after
`order.completed` belongs to the saga, and whoever deletes its version makes a dead letter of it.

A saga that is parked is in flight, too, but nothing but an operator moves it: it is counted apart.

    counting    the definition above, over any source of records
    groups      what services have committed
    asking      both, of the cluster that the environment names
"""
