"""Deployment: the repository's state taken to a target, and back.

    version.py      what is deployed: a hash of the code, kept as a directory that it runs from
    manifest.py     what a version promises to sagas in flight, in plain words
    breaking.py     which changes break them
    ordering.py     which service goes before which, and why
    planning.py     all of that, for this project and what is deployed now
    state.py        what is deployed: a file, and a lock for whoever changes it
    target.py       what a rollout needs of a target
    local.py        processes of this machine, kept alive by supervisor.py
    compose.py      containers, by docker compose
    health.py       readiness and lag
    waits.py        the longest that an order waited meanwhile
    rollout.py      one service after the other, and back again when one does not become well

Invariant: whatever a deployment does may be done again. What it was doing when it was killed is in its state, and
`apply` goes on from there.
"""
