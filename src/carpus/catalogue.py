"""What `carpus models` lists: the networks of the report, strong ones beside them, and small ones for a CPU.

The numbers are written down, because counting them takes the libraries and ten seconds; a test counts them again.
"""

from dataclasses import dataclass

CLASSES = 29

NOTE = """\
size: parameters for 29 classes. stride: of the logits, in pixels of the image. Sides of an image are multiples of 32.

weights: values of model.weights; a local file or folder always does. microsoft/beit* are repositories of the hub.

deeplabv3, deeplabv3plus, upernet, beit: two images or more at a time, because of BatchNorm after image pooling; \
model.norm: group does without. beit: sides up to 1024, because attention is over all patches.

Other encoders of segmentation-models-pytorch, or tu- and the name of a timm model, work with unet, unetplusplus, fcn, \
deeplabv3, deeplabv3plus and upernet, where they have the maps for it."""


@dataclass(frozen=True)
class Entry:
    """A network: `model.name`, `model.encoder`, parameters, stride of the logits, values of `model.weights`, limits."""

    name: str
    encoder: str
    parameters: int
    stride: int
    weights: str
    limits: str


ENTRIES = (
    Entry("unet", "resnet18", 14_322_285, 1, "imagenet", ""),
    Entry("unet", "resnet34", 24_430_445, 1, "imagenet", ""),
    Entry("unetplusplus", "resnet34", 26_072_685, 1, "imagenet", ""),
    Entry("fcn", "resnet18", 11_764_061, 8, "imagenet", ""),
    Entry("fcn", "resnet50", 32_954_845, 8, "imagenet", ""),
    Entry("fcn", "resnet101", 51_946_973, 8, "imagenet", ""),
    Entry("deeplabv3", "resnet18", 15_899_869, 8, "imagenet", "batch >= 2"),
    Entry("deeplabv3", "resnet50", 39_634_653, 8, "imagenet", "batch >= 2"),
    Entry("deeplabv3", "resnet101", 58_626_781, 8, "imagenet", "batch >= 2"),
    Entry("deeplabv3plus", "resnet18", 12_330_221, 4, "imagenet", "batch >= 2"),
    Entry("deeplabv3plus", "resnet101", 45_670_637, 4, "imagenet", "batch >= 2"),
    Entry("upernet", "resnet101", 56_277_725, 4, "imagenet", "batch >= 2"),
    Entry("upernet", "tu-convnext_atto", 11_012_101, 4, "imagenet", "batch >= 2"),
    Entry("upernet", "tu-convnext_base", 97_703_069, 4, "imagenet", "batch >= 2"),
    Entry("upernet", "tu-swin_tiny_patch4_window7_224", 36_747_223, 4, "imagenet", "batch >= 2"),
    Entry("upernet", "tu-swin_base_patch4_window7_224", 96_879_829, 4, "imagenet", "batch >= 2"),
    Entry("segformer", "mit_b0", 3_718_461, 4, "imagenet", ""),
    Entry("segformer", "mit_b1", 13_678_429, 4, "imagenet", ""),
    Entry("segformer", "mit_b2", 24_723_293, 4, "imagenet", ""),
    Entry("segformer", "mit_b3", 44_599_133, 4, "imagenet", ""),
    Entry("segformer", "mit_b4", 61_369_693, 4, "imagenet", ""),
    Entry("segformer", "mit_b5", 81_970_013, 4, "imagenet", ""),
    Entry("hrnet", "hrnet_w18_small", 1_541_837, 4, "imagenet", ""),
    Entry("hrnet", "hrnet_w48", 65_864_717, 4, "imagenet", ""),
    Entry("beit", "beit_tiny", 10_307_885, 4, "none", "side <= 1024, batch >= 2"),
    Entry("beit", "beit_base", 161_113_181, 4, "microsoft/beit*", "side <= 1024, batch >= 2"),
    Entry("beit", "beit_large", 438_224_413, 4, "microsoft/beit*", "side <= 1024, batch >= 2"),
)
"""Every listed network."""
