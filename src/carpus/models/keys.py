"""Names of tensors in weights of other libraries, and of those that a network does without."""

import re

RENAMED = (
    (r"^segmentation_head\.0\.", "head."),  # segmentation-models-pytorch
    (r"^classifier\.4\.", "head."),  # torchvision
    (r"^classifier\.(\d\.)", r"decoder.\1"),
    (r"^backbone\.", "encoder."),
    (r"^decode_head\.classifier\.", "head."),  # transformers
    (r"^decode_head\.", "decoder."),
    (r"^(beit|fpn)\.", r"encoder.\1."),
)
"""Names that other libraries give to the parts of a whole network."""

NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)$"
_LINEAR = r"(weight|bias)$"

_TORCHVISION = ((rf"^aux_classifier\.[014]\.{NORM}", "auxiliary head of another library"),)

LEFT_OUT = {
    "fcn": _TORCHVISION,
    "deeplabv3": _TORCHVISION,
    "beit": (
        (rf"^auxiliary_head\.(convs\.\d\.(convolution|normalization)|classifier)\.{NORM}", _TORCHVISION[0][1]),
        (rf"^classifier\.{_LINEAR}|^encoder\.beit\.(pooler\.)?layernorm\.{_LINEAR}", "image classifier"),
        (rf"^(layernorm|lm_head)\.{_LINEAR}|^encoder\.beit\.embeddings\.mask_token$", "pretraining by masks"),
    ),
    "every network": (
        (rf"^aux\.\d+\.[014]\.{NORM}", "auxiliary head, for training only"),
        (r"\.(relative_position_index|attn_mask)$", "no weight"),
    ),
}
"""Keys of a source that a network may lack, and why: whole names, because any other key would be a weight lost."""

CLASSIFIER = rf"^(fc|_fc|last_linear|linear|head|head\.fc|classifier(\.\d)?)\.{_LINEAR}"
"""The last layers of torchvision's and smp's image classifiers; those of timm are looked up."""


def rename(name: str) -> str:
    """The name of a `Network` for one of another library; any other stays."""
    for pattern, replacement in RENAMED:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def reason_to_leave_out(name: str, network: str) -> str | None:
    """Why a network does without a key; None if nothing says so."""
    known = (*LEFT_OUT.get(network, ()), *LEFT_OUT["every network"])
    return next((reason for pattern, reason in known if re.search(pattern, name)), None)
