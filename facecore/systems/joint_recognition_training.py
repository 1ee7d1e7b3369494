"""Training of system 1: coefficients, then shapes and persons together (METHODS 3)."""

from __future__ import annotations

import torch

from facecore.data import LabelledBatch, PhotoSource, five_points, sample_generator
from facecore.data.identities import IdentitySampler
from facecore.data.rendered_photos import PersonRenders
from facecore.evaluation.verification import verify_persons
from facecore.morphable import MorphableModel
from facecore.render import Renderer
from facecore.systems import seeds
from facecore.systems.face_trainer import FaceTrainer
from facecore.systems.fitted_photos import fit_photographs
from facecore.systems.joint_recognition import JointAssets, JointRecognition
from facecore.systems.joint_recognition_classifier import PersonStatistics
from facecore.systems.joint_recognition_config import JointRecognitionConfig
from facecore.systems.joint_recognition_losses import JointBatch, JointObjective
from facecore.systems.solved_heads import solve_on_renders
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.config import DataConfig, WorldConfig, config_hash
from facecore.training.pictures import rows_of_pictures
from facecore.training.rates import risen_cosine
from facecore.training.trainer import State

NAME = "joint-recognition"
STAGES = ("encoder", "joint", "final")  # JointStageConfig.<stage>_iterations each
VERIFIED_PICTURES = 4  # of each held-out person
VERIFIED_PERSONS = 50
CLASSIFIER_RENDERS = 1000
BATCH = 25


class JointRecognitionTrainer(FaceTrainer):
    """Implements training.loop.Trainer; see FaceTrainer."""

    name = NAME

    def __init__(self, config: JointRecognitionConfig, morphable: MorphableModel, photos: PhotoSource | None) -> None:
        super().__init__(config, morphable, photos)
        size, seed, counts = config.model.image_size, config.run.seed, config.world
        self.persons = PersonRenders(self.morphable, size, size, seed + seeds.JOINT_PERSONS, pictures=counts.pictures)
        self.strangers = PersonRenders(self.world, size, size, seed + seeds.JOINT_STRANGERS, pictures=VERIFIED_PICTURES)
        self._sampler = IdentitySampler(torch.arange(counts.persons).repeat_interleave(counts.pictures))
        labelled = self.morphable.to("cpu")
        system = JointRecognition(config.model, JointAssets.from_morphable(labelled))
        system.solve_decoders(labelled)
        self.model = self.system = system.to(self.device)
        self.system.encoder = distributed.synchronised(system.encoder, self.device)
        self.system.config_hash = config_hash(config)
        num_persons = counts.persons + (0 if photos is None else photos.num_identities)
        self.objective = JointObjective(config, self.system, self.morphable, num_persons).to(self.device)
        heads = {id(parameter) for head in self.system.code_heads() for parameter in head.parameters()}
        every = list(self.objective.parameters())
        groups = [[p for p in every if (id(p) in heads) == own] for own in (False, True)]
        self.parameters = [parameter for group in groups for parameter in group]
        self.optimizer = Adam([{"params": group} for group in groups])
        self._averaged = distributed.averaged(self.objective)
        self._share = distributed.own_share()
        self._share.rows(config.data.labelled_batch)  # raises where the processes cannot share the batch
        self._counts = [getattr(config.stages, f"{stage}_iterations") for stage in STAGES]
        self.total_iterations = sum(self._counts)
        self._stream = self.stream_of_photographs(config.data.photos_per_identity)
        self.labels = None if photos is None or self._stream is None else fit_photographs(photos, labelled, size)
        self.begin()

    def rendered_photographs(self, data: DataConfig, world: WorldConfig) -> None:
        """None: the persons that are rendered come with labels."""
        return None

    def stage(self, iteration: int) -> str:
        """Which of STAGES an iteration belongs to."""
        for stage, count in zip(STAGES, self._counts):
            if iteration < count:
                return stage
            iteration -= count
        raise ValueError(f"training ends after {self.total_iterations} iterations")

    def learning_rate(self, iteration: int) -> float:
        """Phase I has a rate of its own; phase III's two parts share one."""
        stages, first = self.config.stages, self._counts[0]
        early = iteration < first
        rate = stages.encoder_learning_rate if early else stages.learning_rate
        done, count = (iteration, first) if early else (iteration - first, self.total_iterations - first)
        return float(rate * (risen_cosine(done, count) if stages.schedule == "cosine" else 1.0))

    def images_in(self, iteration: int) -> int:
        return self.config.data.labelled_batch + (self.config.data.photo_batch if self._stream else 0)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        head_rate = 1.0 if self.stage(iteration) == "encoder" else self.config.stages.head_rate
        for group, factor in zip(self.optimizer.param_groups, (1.0, head_rate)):
            group["lr"] = self.learning_rate(iteration) * factor
        if iteration == self._counts[0] and self.config.stages.classifier == "solved":
            self._solve_classifier()
        self.objective.train()
        self.optimizer.zero_grad(set_to_none=True)
        batch = self.batch(iteration)
        share = distributed.share_of(len(batch.image), self.device)  # photographs without labels leave unequal parts
        terms = self._averaged(self.stage(iteration), batch, share)
        terms["total"].backward()
        result = distributed.mean_losses([{name: value.detach() for name, value in terms.items()}])
        self.descend(self.parameters, result, iteration)
        if iteration + 1 == self._counts[0]:
            self._solve_heads()
        return result

    def _solve_heads(self) -> None:
        """Ends phase I, on persons that no iteration sees, a picture of each."""
        batch, objective = self.config.data.labelled_batch, self.objective

        def wanted(renders: LabelledBatch) -> torch.Tensor:
            return self.system.activations_of(
                self.system.codes_of(self.morphable, renders.identity, renders.expression)
            )

        numbers = self.persons.one_of_each(self.config.world.persons, self.config.stages.head_renders)
        solve_on_renders(self.system, wanted, objective.code_error, self.persons, numbers, batch, self.optimizer)

    @torch.no_grad()
    def _solve_classifier(self) -> None:
        """Begins phase III, on pictures of the persons that phase I never saw; of several processes each looks at its
        own."""
        system, persons, size = self.system, self.persons, self.config.data.labelled_batch
        system.eval()
        distributed.take_first_buffers(system.encoder)
        statistics = PersonStatistics(system.identity_size, self.device)
        count = self.config.world.persons
        place = torch.arange(min(CLASSIFIER_RENDERS, count * persons.pictures))
        numbers = (place % count) * persons.pictures + place // count
        for index in numbers.split(size)[self._share.index :: self._share.count]:
            batch = persons.batch(index)
            true = system.codes_of(self.morphable, batch.identity, batch.expression).identity
            statistics.add(true, system.encode(batch.image, batch.landmarks).identity)
        classifier = self.objective.classifier
        solved = statistics.sum_over_processes().classifier(self._codes_of_persons())
        for parameter, value in zip((classifier.weight, classifier.bias), solved):
            parameter.copy_(value)

    def _codes_of_persons(self) -> torch.Tensor:
        """True codes of all that are told apart: the rendered ones, then those of photographs, of whom nobody has
        labels as the mean face."""
        count, model = self.config.world.persons, self.morphable
        rendered = self.persons.coefficients(torch.tensor(self.persons.one_of_each(0, count))).identity
        whole = rendered.new_zeros(self.objective.classifier.out_features, model.num_identity)
        whole = model.prior.unwhiten("identity", whole)
        whole[:count] = rendered
        if self.labels is not None and self.photos is not None:
            known = self.labels.known.cpu()
            person, fits = self.photos.identity.cpu()[known], self.labels.identity.cpu()[known]
            pictures = person.bincount(minlength=len(whole) - count)  # of many, fits of each 30 differ: their mean
            total = fits.new_zeros(len(pictures), fits.shape[1]).index_add_(0, person, fits)
            fitted = pictures.nonzero()[:, 0]
            whole[(count + fitted).to(whole.device)] = (total[fitted] / pictures[fitted, None]).to(whole)
        expression = whole.new_zeros(len(whole), model.num_expression)
        return self.system.codes_of(model, whole, expression).identity

    def batch(self, iteration: int) -> JointBatch:
        """This process's share of an iteration's renders and photographs."""
        data = self.config.data
        index = self._numbers(iteration)[self._share.rows(data.labelled_batch)]
        renders = self.persons.batch(index)
        persons = (index // self.persons.pictures).to(self.device)
        persons = torch.where(persons < self.config.world.persons, persons, -1)
        whole = [renders.image, five_points(renders.landmarks), renders.identity, renders.expression, persons]
        if self._stream is not None and self.labels is not None:
            photos = self._stream.at(iteration).to(self.device)
            rows = self._stream.batches.index(iteration)[self._share.rows(data.photo_batch)]
            identity, expression, known = (part[rows].to(self.device) for part in self.labels)
            person = photos.identity + self.config.world.persons
            parts = (photos.image, photos.aligning_points(self.system.usual_points), identity, expression, person)
            whole = [torch.cat([own, part[known]]) for own, part in zip(whole, parts)]
        return JointBatch(whole[0], whole[1], whole[2], whole[3], whole[4], renders)

    def _numbers(self, iteration: int) -> torch.Tensor:
        """Renders of an iteration: in phase I of ever new persons, then some of each of those to be told apart."""
        data, stages = self.config.data, self.config.stages
        if self.stage(iteration) == "encoder":
            first = self.config.world.persons + stages.head_renders + stages.skipped_persons
            return torch.tensor(self.persons.one_of_each(first + iteration * data.labelled_batch, data.labelled_batch))
        generator = sample_generator(self.config.run.seed, "rendered persons", iteration)
        count = -(-data.labelled_batch // data.photos_per_identity)
        return self._sampler.sample(generator, count, data.photos_per_identity)[: data.labelled_batch]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on held-out renders, and verification of held-out persons by c_Id."""
        errors = super().validate()
        verified = self.verification(self.strangers, VERIFIED_PERSONS)
        return errors | {f"verification_{name}": value for name, value in verified.items()}

    @torch.no_grad()
    def verification(self, renders: PersonRenders, persons: int) -> dict[str, float]:
        """How well c_Id tells the first persons of some renders apart; see verify_persons."""
        codes = []
        for index in torch.arange(persons * renders.pictures).split(BATCH):
            batch = renders.batch(index)
            codes.append(self.system.encode(batch.image, batch.landmarks).identity.cpu())
        return verify_persons(torch.cat(codes).numpy(), renders.pictures)

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Held-out renders, and below each its face, looking straight ahead."""
        self.system.eval()
        batch = self.held_out.batch(torch.arange(6))
        images, face = batch.image, self.system.reconstruct(batch.image, batch.landmarks)
        renderer = Renderer(face.triangles, *images.shape[2:]).to(self.device)
        drawn = renderer(face.vertices, face.albedo, face.camera, face.sh_coefficients).image
        return rows_of_pictures((images, drawn))

    def resumable(self) -> dict[str, State]:
        return {"classifier": self.objective.classifier}

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        return self.system.assets.to_tensors()
