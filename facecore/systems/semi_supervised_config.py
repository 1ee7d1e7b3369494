"""Settings of the semi-supervised system (METHODS 2): sizes, loss weights, stages, presets."""

from __future__ import annotations

import dataclasses
from typing import Literal

from facecore.systems.encoder_config import EncoderConfig
from facecore.training.config import LATER, DataConfig, RunConfig, WorldConfig

Preset = Literal["quick", "small", "ablation", "paper"]


@dataclasses.dataclass(frozen=True)
class ModelConfig(EncoderConfig):
    """Morphable model and networks; those of the preset `paper` are the paper's sizes (METHODS 2.1)."""

    identity_size: int = 128
    """Length of the identity code c_id."""
    expression_size: int = 64
    """Length of the expression code c_exp."""
    factors: tuple[int, ...] = (4, 4, 4, 4, 2)
    """Down-sampling factors of the mesh hierarchy, fine to coarse."""
    shape_channels: tuple[int, ...] = (256, 256, 128, 64, 32, 16)
    """Widths of the shape decoder, coarse to fine."""
    albedo_channels: tuple[int, ...] = (256, 256, 128, 64, 32, 16)
    """Widths of the albedo decoder, coarse to fine."""
    critic_channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Widths of the discriminator, fine to coarse."""
    shape_decoder: Literal["graph", "linear"] = "graph"
    """linear: one layer from the codes to all vertices, for comparison."""
    albedo_decoder: Literal["graph", "texture", "both"] = "graph"
    """texture: the CNN over UV space with skips from the encoder, from the start; both: the graph's until stage C."""
    texture_skips: Literal["warped", "raw"] = "warped"
    """warped: skips are sampled where each texel is seen; raw: as they lie in the picture."""
    num_terms: int = 6
    """Chebyshev terms K of each graph convolution."""
    laplacian: Literal["combinatorial", "symmetric"] = "combinatorial"
    """Laplacian of the graph convolutions (METHODS 1.6)."""


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights of METHODS 2.2, where 0 switches a term off, and the two forms that ablations change."""

    recognition: float = 0.1
    """L_recog: softmax identification plus center loss on c_id."""
    center: float = 0.003
    """Center loss inside L_recog (lambda_center)."""
    reconstruction: float = 10.0
    """L_recon: photometric error in the mask."""
    gradient_difference: float = 1.0
    """Image gradient difference inside L_recon (w_g)."""
    landmark: float = 20.0
    """L_lmk, squared distances and pairwise structure."""
    shape: float = 1.0
    """L_shp on the labelled half."""
    pair: float = 1.0
    """L_pair on the labelled half; the pair of A with no expression (code 0) is one of its pairs."""
    smoothness: float = 5.0
    """L_smth on the displacement from the template."""
    symmetry: float = 5.0
    """L_symm of the albedo."""
    adversarial: float = 0.01
    """L_adv of the shape discriminator."""
    patch: float = 0.01
    """L_patch of the picture discriminator, in stage C."""
    smoothness_of: Literal["displacement", "shape"] = "displacement"
    """shape: conventional smoothing, of the vertices themselves instead of their displacement from the template."""
    masked: bool = True
    """False: L_recon counts all that the face covers, hair and what lies in front of it too."""
    labelled_albedo: float = 0.0
    """Beyond the paper: albedo of the labelled half, mean absolute difference."""
    labelled_light: float = 0.0
    """Beyond the paper: shading of the labelled half, mean squared difference over directions."""
    labelled_pose: float = 0.0
    """Beyond the paper: pose code of the labelled half, mean squared difference."""
    labelled_code: float = 0.0
    """Beyond the paper: c_id and c_exp of the labelled half against the embedded coefficients, by what they make."""
    surface_points: float = 0.0
    """Beyond the paper: where the encoder's maps see points of the face; the landmarks alone on photographs."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """Stages of METHODS 2.3 and both optimisers."""

    decoder_iterations: int = 0
    """Stage 0, beyond the paper: the decoders alone, from embedded coefficients of random faces."""
    decoder_learning_rate: float = 3e-3
    """Adam in stage 0, falling along a cosine."""
    encoder_iterations: int = 0
    """After stage 0, beyond the paper: the encoder alone, on the coefficients, landmarks, pose and light of renders."""
    encoder_batch: int = 32
    """Renders in each of its batches."""
    encoder_learning_rate: float = 1e-3
    """Adam in that stage, falling along a cosine."""
    head_renders: int = 0
    """At the end of that stage the heads of both codes are solved by least squares on this many renders; 0 = they stay
    as the optimiser left them."""
    warmup_iterations: int = 20_000
    """Stage A: the labelled half with L_shp, L_pair, L_lmk."""
    hybrid_iterations: int = 200_000
    """Stage B: hybrid batches, every term."""
    texture_iterations: int = 100_000
    """Stage C: the texture decoder, with model.albedo-decoder 'both' or 'texture'; shape, heads and batch statistics
    stay as they are."""
    learning_rate: float = 1e-4
    """Adam, the model, in stages A, B and C."""
    head_rate: float = 1.0
    """Of that rate, for the heads of c_id and c_exp: they read thousands of features, so that one step of Adam in all
    their weights is large together, and undoes what was solved (head_renders)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over stages A and B, and over C; cosine ends at 1 %."""
    hold_statistics: bool = dataclasses.field(default=False, metadata=LATER)
    """Stages A and B leave the encoder's batch statistics as stage 0 left them: solved heads depend on these."""
    rise_steps: int = 0
    """Iterations over which the learning rate rises to its full value at the start of stages A (or B) and C."""
    accumulate: int = 1
    """Parts of a batch that go through the model one after the other before its weights move: less memory."""
    texture_trunk: Literal["trained", "frozen"] = "trained"
    """The encoder's convolutions in stage C: trained, with L_shp, L_lmk and L_recog on; frozen, codes cannot drift."""
    history_size: int = 64
    """Drawn pictures that the picture discriminator is shown again."""
    critic_learning_rate: float = 5e-5
    """RMSprop, the discriminators."""
    critic_steps: int = 1
    """Discriminator steps per model step."""
    clip_norm: float = 10.0
    """Largest gradient norm of the model."""
    encoder_precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the encoder's convolutions in training; weights stay float32. auto = bfloat16 where the machine multiplies it
    in hardware (CUDA, CPUs with AMX), float32 elsewhere."""


@dataclasses.dataclass(frozen=True)
class SemiSupervisedConfig:
    """Everything that determines a training run of the semi-supervised system."""

    model: ModelConfig = ModelConfig()
    weights: LossWeights = LossWeights()
    stages: StageConfig = StageConfig()
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


def preset(name: Preset) -> SemiSupervisedConfig:
    """The frozen configuration of that name."""
    return PRESETS[name]


_SMALL_WEIGHTS = LossWeights(
    labelled_albedo=2.0, labelled_light=2.0, labelled_pose=0.5, labelled_code=1.0, surface_points=1.0
)

PRESETS: dict[str, SemiSupervisedConfig] = {
    "paper": SemiSupervisedConfig(model=ModelConfig(albedo_decoder="both")),
    "small": SemiSupervisedConfig(
        model=ModelConfig(
            image_size=96,
            encoder_depth=18,
            surface_points=168,
            point_features=32,
            shape_channels=(64, 64, 48, 32, 16),
            albedo_channels=(32, 32, 32, 16, 16),
            critic_channels=(16, 16, 32, 32),
            factors=(4, 4, 4, 4),
            num_terms=3,
        ),
        weights=_SMALL_WEIGHTS,
        stages=StageConfig(
            decoder_iterations=1800,
            encoder_iterations=1600,
            encoder_learning_rate=2e-3,
            head_renders=20000,
            head_rate=0.05,
            warmup_iterations=0,
            hybrid_iterations=150,
            texture_iterations=0,
            learning_rate=5e-5,
            schedule="cosine",
            encoder_precision="auto",
        ),
        data=DataConfig(labelled_batch=16, photo_batch=8),
        run=RunConfig(validate_every=500, checkpoint_every=200),
    ),
    "ablation": SemiSupervisedConfig(
        model=ModelConfig(
            morphable="procedural",
            num_vertices=2500,
            image_size=64,
            encoder_depth=18,
            surface_points=132,
            point_features=16,
            identity_size=96,
            expression_size=48,
            shape_channels=(64, 64, 32, 16),
            albedo_channels=(32, 32, 16, 16),
            critic_channels=(16, 16, 32),
            factors=(4, 4, 4),
            num_terms=3,
        ),
        weights=LossWeights(center=4.0, pair=3.0, smoothness=50.0, adversarial=0.03, surface_points=1.0),
        stages=StageConfig(
            decoder_iterations=1500,
            encoder_iterations=5000,
            encoder_learning_rate=2e-3,
            head_renders=16000,
            warmup_iterations=0,
            hybrid_iterations=800,
            texture_iterations=0,
            learning_rate=1e-3,
            schedule="cosine",
            critic_learning_rate=5e-4,
            encoder_precision="auto",
        ),
        data=DataConfig(labelled_batch=8, photo_batch=16),
        world=WorldConfig(labelled_modes=20, bumps=40, persons=256),
        run=RunConfig(validate_every=200, checkpoint_every=100),
    ),
    "quick": SemiSupervisedConfig(
        model=ModelConfig(
            morphable="procedural",
            num_vertices=2500,
            image_size=64,
            encoder_depth=18,
            surface_points=132,
            point_features=16,
            identity_size=96,
            expression_size=48,
            shape_channels=(32, 32, 24, 16),
            albedo_channels=(32, 24, 16, 16),
            critic_channels=(16, 16, 32),
            factors=(4, 4, 4),
            num_terms=3,
        ),
        weights=_SMALL_WEIGHTS,
        stages=StageConfig(
            decoder_iterations=400,
            encoder_iterations=500,
            encoder_learning_rate=2e-3,
            head_renders=1600,
            head_rate=0.05,
            warmup_iterations=0,
            hybrid_iterations=60,
            texture_iterations=0,
            learning_rate=5e-5,
            schedule="cosine",
            encoder_precision="auto",
        ),
        data=DataConfig(labelled_batch=16, photo_batch=8),
        run=RunConfig(validate_every=250, validation_size=64, checkpoint_every=100),
    ),
}
