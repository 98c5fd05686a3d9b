"""The settings of a training run: type, default, limits and meaning of each."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from carpus import precision

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Precision = Annotated[precision.Precision, BeforeValidator(lambda value: "32" if value == 32 else value)]
Addition = Literal["down", "up", "refine", "calibration", "aux"]
LossName = Literal["bce", "focal", "dice", "jaccard", "tversky", "focal_tversky", "log_cosh_dice"]


class _Section(BaseModel):
    # Strict: `true` is no number of steps, and the text "8" no batch size.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True)


class Aux(_Section):
    """An auxiliary head: a small FCN head on a feature map of the encoder, for training only."""

    stage: Literal[1, 2, 3, 4, 5] = Field(
        default=4, description="feature map of the encoder, of stride 2**stage; 4 is the third stage of a ResNet"
    )
    weight: Amount = Field(
        default=0.4, description="alpha, the weight of its loss beside 1 for the main one; their sum is divided out"
    )
    final_weight: Amount | None = Field(
        default=None, description="alpha at the last step, reached in a straight line; null: it stays"
    )
    channels: Count | None = Field(default=None, description="width of its 3x3 convolution; null: a quarter of the map")


class Down(_Section):
    """A learned halving of the image before the encoder."""

    kind: Literal["shuffle", "strided"] = Field(
        default="shuffle",
        description="shuffle: the 2x2 mean plus a convolution of the pixel-unshuffled image, one channel; "
        "strided: a strided convolution to eight channels and a widened first projection",
    )
    init: Literal["noop", "random"] = Field(
        default="noop", description="noop: the network begins as without it, on the halved image; random: anew"
    )


class Up(_Section):
    """A learned enlargement of the logits after the decoder."""

    kind: Literal["shuffle", "transposed"] = Field(
        default="shuffle",
        description="shuffle: bilinear plus pixel-shuffled features of the decoder; "
        "transposed: a transposed convolution of the logits",
    )
    factor: Literal[2, 4] = Field(default=2, description="by how much; the stride of the logits is divided by it")
    init: Literal["noop", "random", "icnr"] = Field(
        default="noop",
        description="noop: begins as bilinear; random: anew; icnr (shuffle only): anew, but without checkerboard",
    )


class Refine(_Section):
    """A correction of the logits from the logits."""

    kind: Literal["pointwise", "local", "depthwise", "attention"] = Field(
        default="local",
        description="pointwise: 1x1, identity at first; local: residual 3x3; depthwise: residual 7x7 by class; "
        "attention: residual mixture of the classes, chosen by the image",
    )
    init: Literal["noop", "random"] = Field(default="noop", description="noop: begins as identity; random: anew")
    control: bool = Field(
        default=False,
        description="in place of `kind` a residual per-pixel network of as many parameters, blind to the neighbourhood",
    )


class Model(_Section):
    """The network. `carpus models` lists what there is."""

    name: Literal[
        "unet", "unetplusplus", "fcn", "deeplabv3", "deeplabv3plus", "upernet", "segformer", "hrnet", "beit"
    ] = Field(default="unet", description="architecture")
    encoder: str = Field(
        default="resnet18",
        description="name of a segmentation-models-pytorch encoder, or tu- and that of a timm model; "
        "beit: beit_tiny, beit_base or beit_large",
    )
    weights: str | None = Field(
        default=None,
        description="what it starts from: null (random), imagenet, a hub repository as owner/name, a .safetensors "
        "file, a folder of save_pretrained, or a run folder; of the encoder or of the whole network. A path in a "
        "recipe is relative to the recipe",
    )
    decoder_channels: tuple[Count, ...] | None = Field(
        default=None,
        strict=False,
        description="widths of the decoder: five for a U-Net, coarse to fine, else one; null: the usual ones",
    )
    stride: Literal[1, 2, 4, 8] | None = Field(
        default=None,
        description="stride of the logits, for U-Nets; they are upsampled to the labels, so 2 saves time and costs "
        "little; null: the network's own",
    )
    norm: Literal["batch", "sync", "group", "frozen"] = Field(
        default="batch",
        description="batch: BatchNorm, over the images of all GPUs; sync: the same, and an error where that cannot be; "
        "group: GroupNorm with BatchNorm's scale and shift; frozen: the encoder keeps its statistics, scales and "
        "shifts",
    )
    down: Down | None = Field(default=None, description="learned halving of the image; null: none")
    up: Up | None = Field(default=None, description="learned enlargement of the logits; null: none")
    refine: Refine | None = Field(default=None, description="correction of the logits from the logits; null: none")
    calibration: bool = Field(
        default=False, description="a scale and a bias for every class after the logits, 1 and 0 at first"
    )
    aux: tuple[Aux, ...] = Field(default=(), strict=False, description="auxiliary heads, for training only")
    checkpointing: bool = Field(
        default=False, description="compute activations twice instead of keeping them: less memory, same gradients"
    )


class Pseudo(_Section):
    """Images to learn from besides, whose labels are predictions: what `carpus pseudo` wrote."""

    root: str | None = Field(
        default=None,
        description="folder of `carpus pseudo`; null: none. A path in a recipe is relative to the recipe",
    )
    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.5, description="of the images drawn, so many are pseudo-labelled"
    )
    weight: Positive = Field(default=1.0, description="what one of them counts in the loss, an annotated image being 1")
    until: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.8, description="share of the schedule with them; what follows learns from annotated images alone"
    )
    noise: Amount = Field(default=1.5, description="the limits of their augmentation, those of `augment` being 1")
    selection: bool = Field(
        default=True,
        description="honour what `carpus pseudo` left out; false: every label and pixel counts, the naive way",
    )
    soft: bool = Field(
        default=False, description="learn the probabilities of `carpus pseudo --soft` instead of labels of 0 and 1"
    )
    unverified: bool = Field(
        default=False,
        description="train although nobody knows which patients made the labels; validation may then be optimistic",
    )


class Data(_Section):
    """What the network sees and what it is measured by."""

    image_size: int = Field(
        default=512, ge=32, multiple_of=32, description="side of the square image the network sees, in pixels"
    )
    label_size: int | None = Field(
        default=None, ge=1, description="side of the label maps of the loss, in pixels; null: the same as image_size"
    )
    folds: int = Field(default=5, ge=2, description="the training patients are dealt into so many folds")
    fold: int = Field(default=0, ge=0, description="the fold that validates")
    workers: Count = Field(default=2, description="threads that prepare batches")
    cache_gib: Positive = Field(default=4.0, description="memory of each process for decoded cases, in GiB")
    crop: Annotated[int, Field(ge=32, multiple_of=32)] | None = Field(
        default=None,
        description="side of the window of the image that the network learns from, in pixels of image_size; null: all",
    )
    crop_foreground: Share = Field(
        default=0.75, description="share of the windows that are laid around a pixel of a bone, all bones alike"
    )
    bent_weight: Positive = Field(default=1.0, description="how often a bent wrist is drawn, a straight one being 1")
    hard: str | None = Field(
        default=None, description="a scores.csv of earlier runs; a path in a recipe is relative to the recipe"
    )
    hard_weight: Positive = Field(
        default=3.0, description="how often the worst quarter of the cases in `hard` is drawn, any other being 1"
    )
    pseudo: Pseudo = Field(default=Pseudo(), description="pseudo-labelled images to learn from besides")


class Augment(_Section):
    """How far a training image may be changed; 0 turns a change off."""

    rotation_deg: float = Field(default=45.0, ge=0, le=180, description="largest turn to either side, degrees")
    scale: Amount = Field(default=0.15, description="largest change of size: 0.15 draws from 1/1.15 to 1.15")
    shift: Share = Field(default=0.06, description="largest shift along each axis, share of the side")
    flip: bool = Field(
        default=True, description="mirror every second image left to right (a left hand becomes a right one)"
    )
    gamma: Amount = Field(default=0.25, description="largest change of gamma, as scale")
    contrast: Amount = Field(default=0.2, description="largest change of contrast, as scale")
    brightness: Share = Field(default=0.05, description="largest change of brightness, share of the range")
    noise: Share = Field(default=0.03, description="largest standard deviation of added noise, share of the range")
    blur: Amount = Field(default=0.0, description="largest standard deviation of a Gaussian blur, pixels")
    elastic: Share = Field(default=0.0, description="largest smooth displacement, share of the side; 0.01 is visible")
    clahe: Amount = Field(
        default=0.0, description="largest clip limit of local contrast equalisation; 2 to 4 are usual"
    )
    collimation: Share = Field(
        default=0.0, description="largest depth of a dark bar at each edge, share of the side; it never covers a bone"
    )


class Train(_Section):
    """The optimisation."""

    steps: Count = Field(default=2000, description="optimiser steps")
    batch_size: Count = Field(default=8, description="images in a step, of all devices together")
    learning_rate: Positive = Field(default=1e-3, description="peak learning rate of AdamW")
    encoder_rate: Positive = Field(default=1.0, description="learning rate of the encoder, times learning_rate")
    additions_rate: Positive | dict[Addition, Positive] = Field(
        default=1.0,
        description="learning rate of down, up, refine, calibration and aux, times learning_rate; one number, or a "
        "mapping as in {down: 10, aux: 2}, the others being 1",
    )
    weight_decay: Amount = Field(default=1e-2, description="weight decay of AdamW")
    warmup: Share = Field(default=0.05, description="share of the horizon in which the rate rises to its peak")
    schedule: Literal["cosine", "poly", "constant"] = Field(
        default="cosine", description="how the rate falls after the warm-up"
    )
    power: Positive = Field(default=0.9, description="exponent of the poly schedule")
    horizon: Count | None = Field(
        default=None,
        description="the step at which the schedule ends; null: the last. Set it to what the longest run shall have, "
        "and `--continue` gives the run that so many steps would have been",
    )
    schedule_start: int = Field(
        default=0, ge=0, description="the step at which the schedule starts anew; written by `--continue`"
    )
    clip: Positive = Field(default=1.0, description="largest norm of the gradient")
    accumulate: Count = Field(
        default=1,
        description="parts into which each device cuts its share of a batch, one after the other: less memory",
    )
    ema: Decay = Field(
        default=0.0,
        description="decay of the moving average of the weights, as 0.999; it is what is validated and kept",
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="weights to keep: of the last step, or of the best validation Dice"
    )
    patience: Count | None = Field(
        default=None, description="stop after so many validations without a better Dice; null: never"
    )
    save_every: Count = Field(default=200, description="steps between two saved states, from which a run resumes")
    devices: Count = Field(
        default=1, description="GPUs or processes of a node; torchrun and SLURM decide it themselves"
    )
    nodes: Count = Field(default=1, description="machines; torchrun and SLURM decide it themselves")
    compile: bool = Field(default=False, description="torch.compile the network: pays on a GPU for long runs")
    loss: dict[LossName, Positive | dict[str, Amount]] = Field(
        default={"bce": 0.5, "dice": 0.5},
        min_length=1,
        description="weights of the losses that are added up; one with parameters is a mapping, as in "
        "{tversky: {weight: 1, alpha: 0.3, beta: 0.7}}",
    )
    loss_over: Literal["image", "batch"] = Field(
        default="image", description="what Dice and its kin are computed over: every image, or the batch as one image"
    )
    precision: Precision = Field(
        default="auto",
        description="arithmetic of the network; auto: bf16 where processor or GPU has it, else 32",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to compute")
    seed: int = Field(default=0, ge=0, description="decides initial weights, order and augmentation")
    validate_every: Count = Field(default=200, description="steps between two looks at the validation patients")


class Track(_Section):
    """Who else is told of the run (`pip install 'carpus[track]'`)."""

    tensorboard: bool = Field(default=False, description="write TensorBoard events into RUN/tensorboard")
    mlflow: bool = Field(default=False, description="tell MLflow of settings, metrics and results")
    mlflow_uri: str | None = Field(
        default=None, description="server of MLflow; null: the file mlflow.db (SQLite) beside the run folder"
    )


class Config(_Section):
    """Everything that a run needs to be repeated, besides the data."""

    model: Model = Field(default=Model(), description="the network")
    data: Data = Field(default=Data(), description="image and label size, folds, cache")
    augment: Augment = Field(default=Augment(), description="limits of the augmentation")
    train: Train = Field(default=Train(), description="the optimisation")
    track: Track = Field(default=Track(), description="TensorBoard and MLflow")
    classes: str | None = Field(
        default=None,
        description="JSON file with another class list; null: the 29 bones of the hand. A path in a recipe is relative "
        "to the recipe",
    )
