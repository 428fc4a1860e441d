"""What is copied word for word, and how much."""

from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluate.copying import RUN, TrainingText, copying

EPISODE = (
    "Ash and Pikachu were in Vermilion City, where Lt. Surge's Raichu had beaten every trainer since spring."
)
OTHER = (
    "Misty spends the whole afternoon looking for a lost Goldeen, and Brock cooks for everybody meanwhile."
)

texts = st.lists(
    st.lists(st.sampled_from("abc"), max_size=30).map(" ".join), min_size=1, max_size=5
)  # three words, so that runs recur


def test_a_sample_that_is_the_training_text_is_copied_whole() -> None:
    found = copying([EPISODE], [OTHER], [OTHER[:20], EPISODE], "episodes")
    assert (found.training, found.documents, found.words) == ("episodes", 2, 17 + 4)
    assert found.samples_share_of_12_grams == 1
    assert found.samples_longest_run_median == found.samples_longest_run_max == 17
    assert found.held_out_share_of_12_grams == 0
    assert found.held_out_longest_run_max == 3


def test_case_and_punctuation_make_no_text_ones_own() -> None:
    assert TrainingText([EPISODE]).copied([EPISODE.upper().replace(",", ";")]).share == 1


def test_a_run_does_not_go_on_from_one_document_to_the_next() -> None:
    words = EPISODE.split()
    halves = [" ".join(words[:9]), " ".join(words[9:])]
    found = TrainingText(halves).copied([EPISODE])
    assert found.share == 0
    assert found.longest == [9]
    assert TrainingText([EPISODE]).copied(halves).longest == [9, 8]


def test_the_share_is_of_runs() -> None:
    """Of 14 words, 13 of which are copied, two of the three runs of 12."""
    thirteen = " ".join(EPISODE.split()[:13])
    assert TrainingText([EPISODE]).copied([thirteen + " Togepi"]).share == 2 / 3


def test_of_texts_shorter_than_a_run_no_share_can_be_told() -> None:
    found = TrainingText([EPISODE]).copied(["Ash and Pikachu", "", "Togepi"])
    assert found.share is None
    assert found.longest == [3, 0, 0]


@given(texts, texts)
def test_it_finds_what_a_plain_search_finds(ours: list[str], training: list[str]) -> None:
    def occurs(words: list[str]) -> bool:
        return any(f" {' '.join(words)} " in f" {text} " for text in training)

    def runs(text: str, length: int) -> list[list[str]]:
        words = text.split()
        return [words[i : i + length] for i in range(len(words) - length + 1)]

    found = TrainingText(training).copied(ours)
    assert found.longest == [
        max((n for n in range(1, 31) if any(map(occurs, runs(text, n)))), default=0) for text in ours
    ]
    twelves = [run for text in ours for run in runs(text, RUN)]
    assert found.share == (sum(map(occurs, twelves)) / len(twelves) if twelves else None)
