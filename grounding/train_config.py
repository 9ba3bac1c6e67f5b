"""One training run as a configuration; defaults are declared here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .criterion import CriterionConfig
from .data.mixture import AugmentConfig
from .denoising import DenoisingConfig

TUNE = ("full", "frozen_backbone", "lora")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        sets: Weight of each set (a folder under ``<data-dir>/grounding``) in the mixture.
        turned: Sets in which nothing has a side, such as cells: their pictures are turned and mirrored.
        replay: Weight of each old set, shown again so that it is not forgotten while ``sets`` are learned.
        replay_share: Part of the images that ``replay`` gets, where there is any.
        hold_out: Part of each set (whole patients) kept from training, to fit a calibration on.
        phantoms: Weight of the phantoms in the mixture, shared evenly by their modalities.
        phantom_images: Phantoms drawn of each modality.
        start: Checkpoint to start from: a packaged name, a folder of ours, or a published MM-Grounding-DINO
            or LLMDet checkpoint; None = a new nano.
        tune: "full"; "frozen_backbone"; or "lora": adapters on all attention and feed-forward layers.
        lora_rank: Rank of the adapters.
        image_size: Side of the square network input in pixels.
        first_image_size: The same for the first ``first_steps`` steps: most of the learning is done on small
            pictures, which are cheap.
        first_steps: Steps at ``first_image_size``.
        batch_size: Images a step, over all processes and micro-batches.
        accumulate: Micro-batches a step.
        steps: Optimiser steps in all.
        learning_rate: Peak learning rate of the transformer.
        backbone_factor: Learning rate of the image backbone relative to ``learning_rate``.
        frozen_stages: Backbone stages (after the stem) that are not trained.
        weight_decay: AdamW's weight decay, not applied to norms, biases and embeddings.
        warmup_steps: Steps of linear warm-up.
        decay_fraction: Last part of the run in which the learning rate falls to zero along a cosine.
        clip_norm: Largest norm of the gradient.
        ema_decay: Decay of the moving average of the weights.
        seed: Seed of initialisation, order and augmentation.
        workers: Processes that prepare images, for each process that trains.
        save_every: Steps between two saved states.
        bf16: Run the network in bfloat16; weights, criterion and optimiser stay in float32.
        recompute: Keep no activations inside transformer layers: less memory, more time.
        modality_conditioning: Tell the network the kind of image by a learned embedding.
        modality_prefix: Tell it by a word at the head of the prompt.
        many_queries: Queries of the one-to-many branch; 0 = no such branch.
        tensorboard: Write TensorBoard files too, where TensorBoard is installed.
        denoising: Denoising queries.
        criterion: Loss weights.
        augment: Augmentation.
    """

    sets: dict[str, float]
    turned: Sequence[str] = ()
    replay: dict[str, float] = field(default_factory=dict)
    replay_share: float = 0.3
    hold_out: float = 0.0
    phantoms: float = 0.0
    phantom_images: int = 60
    start: str | None = None
    tune: str = "full"
    lora_rank: int = 16
    image_size: int = 320
    first_image_size: int = 256
    first_steps: int = 0
    batch_size: int = 8
    accumulate: int = 1
    steps: int = 2000
    learning_rate: float = 4e-4
    backbone_factor: float = 0.25
    frozen_stages: int = 2
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    save_every: int = 100
    bf16: bool = True
    recompute: bool = False
    modality_conditioning: bool = True
    modality_prefix: bool = False
    many_queries: int = 0
    tensorboard: bool = False
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        """Refuse what no run could do.

        Raises:
            ValueError: If ``tune`` is unknown, ``turned`` names no set of the run, or ``replay_share`` is not
                a part of the whole.
        """
        if self.tune not in TUNE:
            raise ValueError(f"expected tune to be one of {list(TUNE)}, got {self.tune!r}")
        if unknown := set(self.turned) - {*self.sets, *self.replay}:
            raise ValueError(f"expected turned to name sets of the run, got {sorted(unknown)}")
        if not 0 <= self.replay_share < 1:
            raise ValueError(f"expected replay_share in [0, 1), got {self.replay_share}")
