"""What an operator does about dead letters: look, have them decided again, edited or not, or discard them.

Nothing here decides or changes a saga. Commands write operations (farandole.operations) into the topic of the service
that owns the letter, and read what became of them; the service's worker does the rest. So a command may be interrupted
at any moment, and repeated.

    queue.py      the letters of a service, and how they stand: folded from its topics
    choosing.py   which of them are meant
    asking.py     writing operations and waiting for their outcomes
    showing.py    bytes in words, as far as they go, and never a secret
    editing.py    other fields, by the schema
"""
