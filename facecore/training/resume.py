"""Whether a checkpoint belongs to the run that wants to go on from it."""

from __future__ import annotations

from typing import Any


def check_same_run(saved: dict[str, Any], mine: dict[str, Any]) -> None:
    """Raises ValueError unless both runs' plain values (`Checkpoint.plain`) make them go on to the same weights.

    The configuration's hash leaves out the seed and every path: what these stand for is compared beside it.
    """
    if missing := sorted(set(mine) - set(saved)):
        raise ValueError(
            f"the checkpoint lacks {', '.join(missing)}: another version of facecore wrote it; train again"
        )
    if saved["config_hash"] != mine["config_hash"]:
        raise ValueError(
            f"the checkpoint was made with configuration {saved['config_hash']}, this run has {mine['config_hash']}; "
            "resume with the settings saved in config.yaml"
        )
    seed, own_seed = (plain["config"]["run"]["seed"] for plain in (saved, mine))
    if seed != own_seed:
        raise ValueError(f"the checkpoint was made with seed {seed}, this run has {own_seed}; give --run.seed {seed}")
    if saved["assets"]["morphable_hash"] != mine["assets"]["morphable_hash"]:
        raise ValueError("the checkpoint was trained on another morphable model; give the same --model.morphable")
    precision, own_precision = saved["encoder_precision"], mine["encoder_precision"]
    if precision != own_precision:
        raise ValueError(
            f"the checkpoint was trained with the encoder in {precision}, this machine would go on in {own_precision}; "
            "resume on a machine like the first, or train again"
        )
    if saved["labelled"] != mine["labelled"]:
        before = "from renders alone" if saved["labelled"] is None else "on other labelled photographs"
        raise ValueError(
            f"the checkpoint was trained {before}; give --data.labelled as config.yaml has it, with the same files "
            "in it"
        )
    if saved["photos"] != mine["photos"]:
        before = "without photographs" if saved["photos"] is None else "on other photographs"
        raise ValueError(
            f"the checkpoint was trained {before}; give --data.photos, --data.landmarks, --data.identities and "
            "--data.masks as config.yaml has them, with the same files in them"
        )
    if saved.get("recognition") != mine.get("recognition"):
        raise ValueError(
            "the checkpoint was trained with another recognition network, or with none; give --model.recognition as "
            "config.yaml has it, with the same files"
        )
