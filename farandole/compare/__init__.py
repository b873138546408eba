"""`farandole compare`: the same orders choreographed, orchestrated and hybrid, in figures.

    coupling   what each service has to know of the others, from the bindings
    placing    the same orders in each flow, at once or at a pace
    ends       who sees orders end, and when
    facts      what lies in the topics afterwards, by order
    costs      rounds of one flow each: throughput, CPU, records, bytes
    rollback   failures, and what it takes to take everything back
    outages    what moves while a service is down
    asking     what the project's own commands say of an order
    step       a fraud check, from a patch for each flow
    subscribers  what a hundred more of them cost
    play       all of it, in one run on one system
    scores     who is best at what
    outcome    the result: JSON, tables; page, drawing: for docs/

Invariant: every figure is measured in the run or derived from the code. Nothing here judges.
"""
