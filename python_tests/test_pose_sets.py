"""Sets of one person's pictures: spread over the yaws, of one person, and refused where nobody has enough."""

from __future__ import annotations

import pytest
import torch

from facecore.data.pose_sets import PoseSets


def test_sets_are_spread_over_the_yaws(generator):
    """Six pictures in three parts by yaw, whatever their order; a person with two pictures is left out."""
    identity = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, -1, -1, -1])
    yaw = torch.tensor([30.0, -30, 0, 10, -10, 40, 1, 2, 3, 4, 5])
    sets = PoseSets(identity, yaw, 3)
    assert sets.num_persons == 1
    drawn = sets.sample(generator, 50)
    assert drawn.shape == (50, 3)
    parts = ({1, 4}, {2, 3}, {0, 5})  # by rising yaw
    for column, part in zip(drawn.T.tolist(), parts):
        assert set(column) == part  # 50 draws miss one of two with probability 2^-49


def test_sets_of_faces_that_mostly_look_ahead_still_turn(generator):
    """Evenly spread over the yaws, not over the pictures: both profiles are in every set. The empty parts around 40
    take what is nearest to their middle of the rest, and no picture is in a set twice."""
    yaw = torch.tensor([-80.0, *torch.linspace(-8, 8, 18).tolist(), 80])
    drawn = PoseSets(torch.zeros(20, dtype=torch.int64), yaw, 5).sample(generator, 30)
    assert (drawn[:, 0] == 0).all() and (drawn[:, 4] == 19).all()
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    assert set(drawn[:, 1].tolist()) <= {1, 2} and set(drawn[:, 3].tolist()) <= {17, 18}  # 2, 17: if 1 or 18 is ahead
    assert len(set(drawn[:, 2].tolist())) > 5


def test_pictures_of_one_yaw_are_drawn_too(generator):
    drawn = PoseSets(torch.zeros(4, dtype=torch.int64), torch.full((4,), 7.0), 3).sample(generator, 40)
    assert all(len(set(row)) == 3 for row in drawn.tolist())


def test_persons_are_distinct_while_there_are_enough(generator):
    identity = torch.arange(4).repeat_interleave(2)
    drawn = PoseSets(identity, torch.zeros(8), 2).sample(generator, 4)
    assert sorted(identity[drawn[:, 0]].tolist()) == [0, 1, 2, 3]
    assert PoseSets(identity, torch.zeros(8), 2).sample(generator, 0).shape == (0, 2)


@pytest.mark.parametrize(
    ("size", "yaw", "message"),
    [
        (3, torch.zeros(4), "nobody is on 3 photographs"),
        (0, torch.zeros(4), "size must be at least 1"),
        (1, torch.zeros(3), "identity and yaw must be"),
    ],
)
def test_bad_sets_are_refused(size, yaw, message):
    with pytest.raises(ValueError, match=message):
        PoseSets(torch.tensor([0, 0, 1, 1]), yaw, size)
