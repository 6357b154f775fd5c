"""Every attempt of the corpus is judged as it must be.

``python tests/evasion/test_corpus.py`` prints the score instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_plane.sql import SessionState, Statement, classify
from protos.vocabulary import Risk

CORPUS = Path(__file__).with_name("corpus.yaml")


@dataclass(frozen=True)
class Attempt:
    """An entry of the corpus; see there for what the fields mean."""

    id: str
    sql: str
    why: str
    expect: str
    proof: str = ""
    state: Any = None
    touches: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()

    def judged(self) -> Statement:
        """What the classification says."""
        return classify(self.sql, SessionState(**(self.state or {})))

    def failure(self) -> str:
        """What is wrong with the judgement, or nothing."""
        found = self.judged()
        least = Risk.READ if self.expect == "harmless" else Risk[self.expect.upper()]
        if found.risk < least:
            return f"judged {found.risk.name}, at least {least.name} expected"
        if self.expect == "harmless" and found.risk is not Risk.READ:
            return f"judged {found.risk.name} although it is harmless"
        missing = set(self.touches) - {resource.name for resource in found.resources}
        if missing:
            return f"{missing} not named"
        shown = frozenset[str]().union(*(output.columns for output in found.outputs or ()))
        if found.outputs is not None and not set(self.shows) <= shown:
            return f"traced to {set(shown)}, not to {self.shows}"
        return ""


def attempts() -> list[Attempt]:
    """The corpus."""
    return [Attempt(**entry) for entry in yaml.safe_load(CORPUS.read_text())]


@pytest.mark.parametrize("attempt", attempts(), ids=lambda attempt: attempt.id)
def test_an_attempt_is_judged_by_what_it_does(attempt: Attempt) -> None:
    assert attempt.failure() == ""


def test_every_attempt_is_explained_and_what_passes_as_reading_is_proven() -> None:
    corpus = attempts()
    assert len(corpus) >= 80
    assert len({attempt.id for attempt in corpus}) == len(corpus)
    for attempt in corpus:
        assert attempt.why
        assert bool(attempt.proof) == (attempt.expect == "harmless"), attempt.id


def main() -> None:
    """Print how many attempts fail, by what is expected of them."""
    total: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for attempt in attempts():
        total[attempt.expect] += 1
        failure = attempt.failure()
        caught[attempt.expect] += not failure
        if failure:
            print(f"  {attempt.id}: {failure}")
    for expect, count in sorted(total.items()):
        print(f"{expect:12} {caught[expect]:4} of {count}")
    print(f"{'all':12} {sum(caught.values()):4} of {sum(total.values())}")


if __name__ == "__main__":
    main()
