"""Whether what an operator names can be meant, and what became of it if not.

Invariant: a command that deals with one letter, and is repeated after it was interrupted, means the same letter or
none. A saga names one letter only as long as it has no other: what is due changes with what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from farandole.errors import ConfigError, FarandoleError
from farandole.operations import DISCARD
from farandole.redrive.choosing import Choice
from farandole.redrive.queue import DISCARDED, REDRIVEN, Book, Letter, Sequence


class Before(NamedTuple):
    """A letter that is named, and was dealt with before. as_asked: whether it came to what is asked now"""

    letter: Letter
    state: str
    edited: bool
    who: str
    as_asked: bool

    def to_dict(self) -> dict[str, Any]:
        said = {name: each for name, each in self._asdict().items() if name != "letter"}
        return {"service": self.letter.service, "saga": self.letter.saga, "letter": str(self.letter.source), **said}


def compared(
    book: Book, letters: Iterable[Letter], action: str, edit: Callable[[Letter], bytes] | None = None
) -> list[Before]:
    """What letters came to that were dealt with, and whether that is what is asked.

    edit: the bytes that a letter is to be decided with, if it is not as it came; a letter's own have to be kept
    """
    found = []
    for letter in letters:
        done, state = book.done.get((letter.service, letter.source)), book.state(letter)
        as_asked = state == (DISCARDED if action == DISCARD else REDRIVEN)
        if as_asked and edit is not None:
            as_asked = _is_that_edit(book, letter, edit)
        found.append(
            Before(letter, state, done is not None and done.outcome.edited, done.outcome.who if done else "", as_asked)
        )
    return found


def _is_that_edit(book: Book, letter: Letter, edit: Callable[[Letter], bytes]) -> bool:
    try:
        return book.redriven_as(letter, edit(letter))
    except FarandoleError:  # what cannot be made of it was not
        return False


def dealt_with(book: Book, choice: Choice, chosen: Iterable[Sequence], most: int | None) -> list[Letter]:
    """What is named and was dealt with before. ConfigError if a name is of nothing, or of a letter that is not due.

    chosen: what the choice means; most: letters of each of them at the most
    """
    meant = {id(letter) for sequence in chosen for letter in sequence.letters[:most]}
    before = []
    for what, letters in _named(book, choice):
        if not letters:
            raise ConfigError(f"no dead letter is of {what}", mend="farandole dead-letters list --state all")
        if any(id(letter) in meant for letter in letters):
            continue
        done = [letter for letter in letters if book.state(letter) in (REDRIVEN, DISCARDED)]
        if len(done) == len(letters):
            before.append(letters[-1])
        elif choice.letters:
            _not_due(book, next(letter for letter in letters if letter not in done))
    return before


def check_lasting(
    book: Book, choice: Choice, chosen: Iterable[Sequence], command: Callable[[list[Letter]], str]
) -> None:
    """ConfigError if a repetition might mean other letters than these.

    command: the one that names these letters by their places
    """
    chosen = list(chosen)
    sagas = {sequence.saga for sequence in chosen if sequence.saga}
    letters = [each for each in _all(book) if each.saga in sagas and _is_of(each, choice)]
    if choice.letters or len(letters) <= len(sagas):
        return
    several = next(saga for saga in sorted(sagas) if sum(each.saga == saga for each in letters) > 1)
    raise ConfigError(
        f"{several} has other dead letters, before or behind the one that is due: a repetition might mean those",
        mend=command([sequence.letters[0] for sequence in chosen]),
    )


def _named(book: Book, choice: Choice) -> Iterator[tuple[str, list[Letter]]]:
    """Each place that is named, or else each saga, and its letters."""
    of = [letter for letter in _all(book) if _is_of(letter, choice)]
    if choice.letters:
        for place in choice.letters:
            yield place, [letter for letter in of if str(letter.source) == place]
        return
    for saga in choice.sagas:
        yield saga, [letter for letter in of if letter.saga == saga]


def _is_of(letter: Letter, choice: Choice) -> bool:
    return Choice(services=choice.services, sagas=choice.sagas).fits(letter)


def _all(book: Book) -> Iterator[Letter]:
    return (letter for letters in book.letters.values() for letter in letters)


def _not_due(book: Book, letter: Letter) -> None:
    """ConfigError if another letter of its saga comes first; nothing if it is due, and something else does not fit."""
    sequence = book.sequence((letter.service, letter.source.partition, letter.saga)) if letter.saga else None
    if letter.saga and (sequence is None or not sequence.letters):
        raise ConfigError("its saga is being parked just now", where=str(letter.source), mend="repeat the command")
    if sequence is not None and sequence.letters[0] is not letter:
        raise ConfigError(
            f"{sequence.letters[0].source} is due first", where=str(letter.source), mend="redrive, edit or discard that"
        )
