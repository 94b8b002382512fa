"""Names of cells as a person reads them; files and tables keep the keys."""

INIT_NAMES = {"imagenet": "ImageNet"}
ENCODER_NAMES = {
    "resnet": "ResNet", "densenet": "DenseNet", "efficientnet_lite0": "EfficientNet-Lite0"
}  # fmt: skip


def encoder_name(encoder: str) -> str:
    """Return the name of an encoder in running text; unknown encoders keep their key.

    >>> encoder_name("efficientnet_lite0"), encoder_name("mit_b0")
    ('EfficientNet-Lite0', 'mit_b0')
    """
    return ENCODER_NAMES.get(encoder, encoder)


def init_name(init: str) -> str:
    """Return the display name of an initialisation; a recipe after the name is unchanged.

    >>> init_name("imagenet"), init_name("imagenet path=a.pth"), init_name("random")
    ('ImageNet', 'ImageNet path=a.pth', 'random')
    """
    name, _, recipe = init.partition(" ")
    return f"{INIT_NAMES.get(name, name)} {recipe}".rstrip()


def percent(frac: float) -> str:
    """Format a fraction as a percentage with up to six digits.

    >>> percent(1.0), percent(0.125), percent(0.29)
    ('100%', '12.5%', '29%')
    """
    return f"{100 * frac:g}%"


def condition(
    encoder: str | None = None,
    init: str | None = None,
    frac: float | None = None,
    seed: int | None = None,
) -> str:
    """Name one or several cells.

    >>> condition("resnet", "imagenet", 0.5, 0), condition("resnet", "imagenet")
    ('resnet · ImageNet · 50% · seed 0', 'resnet · ImageNet')
    >>> condition(frac=0.5)
    '50% of the data'
    """
    if frac is not None and encoder is None and init is None:
        return f"{percent(frac)} of the data"
    parts = (
        encoder,
        init and init_name(init),
        None if frac is None else percent(frac),
        None if seed is None else f"seed {seed}",
    )
    return " · ".join(part for part in parts if part is not None)
