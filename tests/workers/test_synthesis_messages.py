"""What an answer says of a class that its picture was made for: all that is known, and no more."""

from functools import partial

import torch

from convlens.workers.synthesis.messages import picture_of
from convlens.workers.synthesizers import Sketch

picture = partial(picture_of, labels=["cat", "dog"], with_pixels=False)


def test_what_is_not_known_is_left_out() -> None:
    pixels = torch.zeros(3, 4, 4)
    unseen = picture(Sketch(pixels, 2, 1.0), 1, None)
    glimpsed = picture(Sketch(pixels, 2, 1.0, probability=0.0), 1, None)
    missing = picture(None, 1, None)
    for made in (unseen, glimpsed, missing):
        assert (made.target.class_index, made.target.label) == (1, "dog")
        assert not made.target.HasField("logit")
    told = [made.target.HasField("probability") for made in (unseen, glimpsed, missing)]
    assert told == [False, True, False]


def test_what_is_known_is_told_also_where_it_is_0() -> None:
    scores = torch.tensor([-200.0, 0.0])
    made = picture(Sketch(torch.zeros(3, 4, 4), 2, 1.0), 0, (scores, scores))
    assert made.target.HasField("probability") and made.target.probability == 0
    assert made.prediction.HasField("logit") and made.prediction.logit == 0
