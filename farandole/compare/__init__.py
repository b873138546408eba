"""`farandole compare`: the same orders choreographed, orchestrated and hybrid, in figures.

    needs      what has to be there, before anything starts
    clock      how much time is left, and what ends it when it is over
    coupling   what each service has to know of the others, from the bindings
    placing    the same orders in each flow, at once or at a pace
    ends       who sees orders end, and when
    facts      what lies in the topics afterwards, by order
    costs      rounds in which each flow has its turns: throughput, CPU, records, bytes
    machine    what else the machine did meanwhile
    rollback   failures, and what it takes to take everything back
    outages    what moves while a service is down
    asking     what the project's own commands say of an order
    step       a fraud check, from a patch for each flow
    audience   some more subscribers, run: `standins` are their processes
    subscribers  what a hundred more of them would cost, from bindings
    play       all of it, in one run on one system
    scores     who is best at what, and where the rounds do not say
    outcome    the result: JSON, tables; page, drawing: for docs/

Invariant: every figure is measured in the run or derived from the code. Nothing here judges.
"""
