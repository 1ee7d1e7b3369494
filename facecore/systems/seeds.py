"""What is added to a run's seed, so that what is drawn for one purpose is never drawn for another."""

HELD_OUT = 1_000_003  # renders of which errors are measured
PERSONS = 2_000_003  # persons on rendered photographs
ABLATION_PERSONS = 3_000_003  # held-out persons of the ablation's claims
RECOGNITION_PERSONS = 4_000_037
RECOGNITION_HELD_OUT = 5_000_011
SEGMENTATION_RENDERS = 6_000_011
SEGMENTATION_HELD_OUT = 7_000_003
JOINT_PERSONS = 8_000_009
JOINT_STRANGERS = 9_000_011  # held-out persons whose codes are verified
REGRESSION_FACES = 10_000_019  # synthetic faces
REGRESSION_VIEWS = 11_000_027  # views of photographs' faces
LABELLED_SETS = 12_000_017  # pictures of one person, of which the truth is known

# What a training may draw from; the others are for what it does not see.
TRAINING = (
    0,
    PERSONS,
    RECOGNITION_PERSONS,
    SEGMENTATION_RENDERS,
    JOINT_PERSONS,
    REGRESSION_FACES,
    REGRESSION_VIEWS,
    LABELLED_SETS,
)
