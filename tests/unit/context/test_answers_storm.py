"""No rejected call is made and no recorded effect repeated, whatever sequence of policies, restarts, answers, resumes and kills comes."""

import random

import pytest

from tests.answers_storm import storm

SEQUENCES = 10
"""In each of the four parts."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("_part", range(4))
def test_a_no_stays_a_no_and_an_effect_is_made_once_over_random_sequences(_part: int) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  printed where the test fails
    happened = storm(SEQUENCES, seed)
    # They are worth something: each kind of thing happened.
    assert min(happened[kind] for kind in ("kill", "rejection", "approval", "edit", "sent")) > 0, happened
