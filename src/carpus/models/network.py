"""The one shape of every network: down, encoder, decoder, head, up, refinement, calibration, auxiliary heads.

Dimension key: B batch, K classes, H W image, h w map of the decoder, s factor of the up layer, C channels.

::

    images (B, 1, H, W)
      down          (B, 1 or 8, H/2, W/2)      optional
      encoder       six maps, of nominal strides 1, 2, 4, 8, 16, 32
      decoder       map (B, C, h, w)
      head          logits (B, K, h, w)        1x1
      up            (B, K, s h, s w)           optional, sees map and logits
      refine        logits to logits           optional
      calibration   logits to logits           optional
    aux heads       logits of a map of the encoder, while training
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from carpus import config
from carpus.models.additions import auxiliary
from carpus.models.output import Output

ADDITIONS = ("down", "up", "refine", "calibration", "aux")
"""The parts of a `Network` that are not its base, by their names as attributes and in a state dict."""


class Parts(NamedTuple):
    """What an architecture is made of.

    Args:
        encoder: images to a list of six maps; map i is of stride 2**i, or less where a stride became a dilation.
        decoder: that list to one map.
        channels: of the six maps; 0 where there is none.
        width: channels of the decoder's map.
        stride: of the decoder's map.
    """

    encoder: nn.Module
    decoder: nn.Module
    channels: tuple[int, ...]
    width: int
    stride: int


class Network(nn.Module):
    """A segmentation network; see the module.

    Args:
        encoder, decoder: see `Parts`.
        head: the decoder's map to logits, linear in every pixel.
        stride: of the logits before `down` and `up`, in pixels of the encoder's input.

    Auxiliary heads are named by their stage, as in `aux.4`: weights of one never fill that of another.

    Besides its parts it has `origin`, a sentence on its weights, and `continued`, the additions that they fill; and
    `widened`, the weights of the encoder that a down layer of several channels has made anew.
    """

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, head: nn.Module, stride: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.down: nn.Module | None = None
        self.up: nn.Module | None = None
        self.refine: nn.Module | None = None
        self.calibration: nn.Module | None = None
        self.aux = nn.ModuleDict()
        self.aux_settings: tuple[config.Aux, ...] = ()
        self.stride: int = stride
        self.frozen_norms = False
        self.origin = "random weights"
        self.continued: tuple[str, ...] = ()
        self.widened: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> Output:
        """Images (B, 1, H, W), H and W multiples of 32 (of 64 with a down layer), to `Output`."""
        features = self.encoder(images if self.down is None else self.down(images))
        decoded = self.decoder(features)
        logits = self.head(decoded)
        if self.up is not None:
            logits = self.up(decoded, logits)
        if self.refine is not None:
            logits = self.refine(logits)
        if self.calibration is not None:
            logits = self.calibration(logits)
        if not self.training:
            return Output(logits)
        aux = zip(self.aux.values(), self.aux_settings, strict=True)
        return Output(logits, tuple(head(features[settings.stage]) for head, settings in aux))

    def train(self, mode: bool = True) -> "Network":
        """As in `nn.Module`; norms that are frozen stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.encoder.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def loss_weights(self, progress: float) -> tuple[float, ...]:
        """Weights of the losses of logits and auxiliary logits at `progress` 0..1 of the training."""
        return auxiliary.loss_weights(self.aux_settings, progress)

    def additions(self) -> Iterator[tuple[str, nn.Module]]:
        """The parts that are there besides the base, by name."""
        for name in ADDITIONS:
            module = cast("nn.Module | None", getattr(self, name))
            if module is not None and any(True for _ in module.parameters()):
                yield name, module


class Last(nn.Sequential):
    """A decoder that only looks at the coarsest map."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The six maps of an encoder to one map."""
        return super().forward(features[-1])
