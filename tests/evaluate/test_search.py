"""The search for hyper-parameters: its order, time and end, the forms that it tries, the cost, and the choice."""

from collections.abc import Iterable
from itertools import count

import numpy as np
import pytest
from support.data import tastes

from recdb.learn import Params
from recdb.learn.events import Events
from recdb.offline.clock import work_clock
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.search import Search
from recdb.offline.space import form
from recdb.offline.validation import Trial, ValidationUsers, best_of

KINDS = ("click", "like", "share", "view")


def events_of(rows: Iterable[Iterable[object]], *, hides: Iterable[str] = KINDS) -> Events:
    """Make events without times from (user, item, kind)."""
    users, items, kinds = (np.array(column) for column in zip(*(list(row)[:3] for row in rows), strict=True))
    user_keys, item_keys = (np.unique(ids, return_inverse=True)[1] + 1 for ids in (users, items))
    return Events(
        users=user_keys.astype(np.int32),
        items=item_keys.astype(np.int32),
        kinds=np.array([KINDS.index(str(kind)) for kind in kinds], dtype=np.int16),
        seconds=np.zeros(len(user_keys), dtype=np.int32),
        weights=np.array([0.3, 0.7, 1.0, 0.1]),
        hides=np.array([kind in hides for kind in KINDS]),
        shape=(int(user_keys.max()) + 1, int(item_keys.max()) + 1),
    )


@pytest.fixture(scope="module")
def liked() -> Events:
    """Likes only: no weights, no times."""
    return events_of([user, item, "like"] for user, item, _ in tastes(users=60, items=50, per_user=12))


@pytest.fixture(scope="module")
def mixed() -> Events:
    return events_of(tastes(users=60, items=50, per_user=12), hides=("like", "share"))


def searched(events: Events, steps: float, **options: object) -> Search:
    """Search for a number of looks at the clock in place of seconds, so that the result depends on nothing else."""
    ticks = count()
    search = Search(
        OfflineEvaluator(events, 500, folds=2), seconds=steps, width=16, clock=lambda: float(next(ticks)), **options
    )  # type: ignore[arg-type]
    search.run()
    return search


def test_a_search_repeats_the_trials_of_a_shorter_one(mixed: Events) -> None:
    short, again, long = searched(mixed, 60), searched(mixed, 60), searched(mixed, 120)

    tried = [trial.params for trial in short.trials]
    assert 50 < len(tried) < len(long.trials)
    assert tried == [trial.params for trial in again.trials]
    assert tried == [trial.params for trial in long.trials[: len(tried)]]


def test_every_form_is_tried_early_alone_and_blended(liked: Events) -> None:
    """EASE and the usual co-occurrences come first, because they take less time to learn."""
    first, trials = searched(liked, 60).trials, searched(liked, 400).trials

    alone = {form(trial.params) for trial in trials if trial.params.blend == 0}
    blended = {form(trial.params) for trial in trials if 0 < trial.params.blend < 1}
    assert alone == {"cooccurrence", "ease", "ideal", "second-order", "chebyshev", "ridge"}
    assert blended >= {"cooccurrence", "ease"}
    assert {"cooccurrence", "ease"} <= {form(trial.params) for trial in first}


def test_a_search_ends_when_nothing_is_left_to_find(liked: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdb.offline.search.STALE", 1)

    search = searched(liked, 1e6)

    assert search.finished
    assert not searched(liked, 60).finished


def test_a_search_keeps_to_its_cost_and_shows_the_gain_of_a_higher_one(mixed: Events) -> None:
    free = searched(mixed, 150)
    cheapest = min(trial.rows for trial in free.frontier())

    bounded = searched(mixed, 150, most_rows=cheapest * 1.5, beyond=True)
    chosen, best = bounded.chosen(), bounded.best()

    assert chosen is not None and best is not None
    assert chosen.rows <= best.rows <= cheapest * 1.5
    assert chosen.objective >= best.objective * 0.982
    assert max(trial.rows for trial in bounded.trials[1:]) > cheapest * 1.5


def test_a_part_that_counts_little_gives_way_to_the_other_where_the_cost_is_bounded(mixed: Events) -> None:
    """Each part keeps its share of the weights of a call, and all that the other part leaves."""
    most = 300.0
    search = searched(mixed, 60, most_rows=most)

    blended = [params for params in search.proven if 0 < params.blend < 1]
    assert len(blended) > 2
    for params in blended:
        people = search.evaluator.user_rows(params, search.evaluator.all_users)
        items = search.evaluator.item_rows(params, search.evaluator.all_users)
        assert people + items <= most
        assert people <= params.blend * most or items >= 0.6 * (most - people)
        assert items >= 0.6 * (1 - params.blend) * most or params.item_neighbors in (40, 50, 100, 200, 400)


@pytest.mark.parametrize(
    ("passed", "worked", "counted"),
    [(10.0, 15.0, 10.0), (10.0, 7.0, 7.0), (10.0, 1.0, 5.0)],
    ids=["alone", "beside others", "nearly stopped"],
)
def test_a_busy_machine_gives_a_search_more_time_but_not_any_time(
    monkeypatch: pytest.MonkeyPatch, passed: float, worked: float, counted: float
) -> None:
    now = {"monotonic": 100.0, "process_time": 50.0}
    monkeypatch.setattr("recdb.offline.clock.time.monotonic", lambda: now["monotonic"])
    monkeypatch.setattr("recdb.offline.clock.time.process_time", lambda: now["process_time"])
    clock = work_clock()
    assert clock() == 0

    now = {"monotonic": 100.0 + passed, "process_time": 50.0 + worked}

    assert clock() == counted


def test_a_slow_start_is_tried_on_few_users_first_and_compared_on_all(
    liked: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recdb.offline.evaluator.FEW_USERS", 20)

    search = searched(liked, 12, start=Params(blend=1.0, neighbors=1))

    few, everybody = search.trials[0], search.before
    assert few.params == everybody.params
    assert few.users == 20 < everybody.users
    chosen = search.chosen()
    assert chosen is not None
    assert chosen.users == everybody.users
    assert chosen.objective >= everybody.objective


def test_a_search_without_time_for_all_users_chooses_what_few_users_found(
    liked: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recdb.offline.evaluator.FEW_USERS", 20)

    search = searched(liked, 6, start=Params(blend=1.0, neighbors=1))

    few = max((trial for trial in search.trials if trial.users == 20), key=lambda trial: trial.objective)
    chosen = search.chosen()
    assert chosen is not None
    assert chosen.users > 20
    assert chosen.params == few.params != search.start


def test_steps_on_all_users_come_before_filters_where_few_users_find_nothing(
    liked: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All users find more neighbours better; to few users all settings are alike."""
    monkeypatch.setattr("recdb.offline.evaluator.FEW_USERS", 20)
    monkeypatch.setattr("recdb.offline.evaluator.FEWEST_USERS", 10)

    def try_out(self: OfflineEvaluator, params: Params, validation: ValidationUsers) -> Trial:
        users = len(validation.users)
        objective = 0.5 if users <= 20 else 0.5 + params.neighbors / 1000 * (params.blend > 0)
        gains = np.full(users, objective, dtype=np.float32)
        return Trial(params, objective, objective, users, self.rows(params, validation), gains)

    monkeypatch.setattr(OfflineEvaluator, "try_out", try_out)
    trials = searched(liked, 400).trials

    filters = next(place for place, trial in enumerate(trials) if trial.users == 10)
    begun = next(place for place, trial in enumerate(trials) if trial.users > 20)
    best = best_of(trials[:filters])
    assert best is not None
    assert best.params.neighbors == 400 > trials[begun].params.neighbors


def two_trials(lead: float, seed: int) -> tuple[Trial, Trial]:
    """Return the trials of two settings on the same users; the second is better by `lead`, and by chance for some."""
    generator = np.random.default_rng(seed)
    gains = generator.random(500)
    lucky = gains + lead * 0.4 + generator.normal(0, 0.2, 500)
    lucky += gains.mean() + lead * 0.4 - lucky.mean()
    won, best = (
        Trial(Params(blend=blend), level, level, 500, 100.0, found.astype(np.float32))
        for blend, level, found in ((0.1, 0.4, gains), (0.2, 0.4 * (1 + lead), lucky))
    )
    return won, best


@pytest.mark.parametrize(("lead", "preferred"), [(0.004, True), (0.1, False)], ids=["hardly", "clearly"])
def test_a_setting_that_won_on_other_data_is_preferred_unless_another_is_clearly_better(
    liked: Events, lead: float, preferred: bool
) -> None:
    search = Search(OfflineEvaluator(liked, 500), seconds=1, width=16)
    won, best = two_trials(lead, seed=1)
    search.trials, search.proven = [won, best], {won.params}

    assert search.best() == best
    assert search.chosen() == (won if preferred else best)


@pytest.mark.parametrize(("lead", "preferred"), [(0.004, True), (0.1, False)], ids=["lost", "kept"])
def test_a_lead_counts_on_users_that_the_search_did_not_see(liked: Events, lead: float, preferred: bool) -> None:
    search = Search(OfflineEvaluator(liked, 500), seconds=1, width=16)
    won, best = two_trials(0.1 if preferred else 0.004, seed=1)
    search.trials, search.proven = [won, best], {won.params}
    search.checked = {trial.params: trial for trial in two_trials(lead, seed=2)}

    assert search.chosen() == (won if preferred else best)


def test_the_best_and_what_won_on_other_data_are_compared_on_a_second_part(
    liked: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recdb.offline.search.HOPELESS", 1.0)
    ticks = count()
    search = Search(OfflineEvaluator(liked, 500, most_users=30), seconds=60, width=16, clock=lambda: float(next(ticks)))
    search.second = lambda: OfflineEvaluator(liked, 500, most_users=30, seed=1)

    search.run()

    best = search.best()
    assert best is not None
    assert best.params in search.checked
    assert search.proven & set(search.checked)
    assert search.checked[best.params].objective != best.objective


def test_neighbours_cut_after_learning_are_those_of_a_smaller_number(mixed: Events) -> None:
    several = [
        Params(blend=0.0, item_neighbors=number, source_exponent=source, cooccurrence_power=power, learner=learner)
        for number in (40, 5)
        for source, power in ((0.0, 1.0), (0.7, 1.3))
        for learner in ("cooccurrence", "ease")
    ]
    several += [Params(blend=0.0, item_neighbors=5, learner="ease", ease_refit=1, recount_exponent=0.4)]
    shared = OfflineEvaluator(mixed, 500)
    for params in several:
        together, alone = shared.try_out(params), OfflineEvaluator(mixed, 500).try_out(params)
        assert together.rows == alone.rows
        assert together.ndcg == pytest.approx(alone.ndcg, rel=1e-5)
