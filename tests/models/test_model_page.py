"""The page about a trained network."""

import hashlib

import pytest

from delayplug.models.card import Card
from delayplug.models.model_page import index_page, model_page
from delayplug.models.pretrained import pretrained


def card(**changes: object) -> Card:
    return {**pretrained("synthetic-learned").card, **changes}  # type: ignore[typeddict-item]


def test_a_page_says_what_a_user_must_know() -> None:
    own = card(accuracy={"last epoch": 0.938, "best on test": 0.95}, stored_accuracy=0.937)
    data = {**own["data"], "name": "SHD-R", "test": 2264}
    config = {**own["config"], "dataset": "data/shdr", "preset": "shd", "protocol": "paper", "hidden": [256, 256]}
    page = model_page({**own, "data": data, "config": config}, b"content")  # type: ignore[typeddict-item]
    assert hashlib.sha256(b"content").hexdigest() in page
    assert "labelled SHD-R, never SHD" in page
    assert "CC BY 4.0" in page
    assert "| last epoch | 93.80 | 92.7 - 94.7 |" in page
    assert "| this file, whole delays | 93.70 | 92.6 - 94.6 |" in page
    assert "was chosen by the test set itself, and is too high" in " ".join(page.split())
    assert "$ delayplug bench run --preset shd" in page
    assert "steps of 10 ms, 5 channels summed, binning grid" in page
    assert "spikingjelly 2" in " ".join(page.split())
    assert 'delayplug.pretrained("synthetic-learned")' in page
    assert max(map(len, page.splitlines())) < 200


def test_a_page_without_what_was_not_measured() -> None:
    own = card()
    del own["stored_accuracy"]
    own["data"] = {**own["data"], "name": "digits"}
    page = model_page(own, b"")
    assert "| this file, whole delays | not measured | |" in page
    assert "whose checksums are not those of a known data set" in page
    own["data"]["name"] = "SHD"  # known by its files, and not by its frames
    assert "the Spiking Heidelberg Digits" in model_page(own, b"")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": "validation"}, "% of 1,000 validation recordings"),
        ({"protocol": "speakers"}, "% of 1,000 recordings of held-out speakers"),
        ({"refit": True}, "Protocol `heldout, refit`: a network was judged by recordings held out of training; this"),
        ({"refit": True}, "300 of them held out in the training before the refit"),
        ({"neuron": "adlif"}, "delays of up to 24 steps, adlif neurons) trained on"),
        ({"delays": "none", "recurrent": "axonal"}, "none-recurrent-axonal delays of up to 24 steps) trained on"),
    ],
)
def test_a_page_of_each_kind_of_run(changes: dict[str, object], expected: str) -> None:
    own = card()
    page = model_page({**own, "config": {**own["config"], **changes}}, b"")
    assert expected in page
    assert ("epoch called best" in page) is (changes.keys() <= {"neuron", "delays", "recurrent"})


def test_a_split_does_not_say_none_beside_what_was_tested_on() -> None:
    own = card()
    data = {**own["data"], "split": "none: nothing is chosen, and 9 training recordings are tested on"}
    page = model_page({**own, "data": data}, b"")  # type: ignore[typeddict-item]
    assert "(split:\n9 training recordings are tested on)" in page


def test_the_index_lists_all() -> None:
    page = index_page([card(name="b"), card(name="a")])
    assert page.index("[a](a.md)") < page.index("[b](b.md)")
    assert "```{toctree}\n:hidden:\n\na\nb\n```" in page
