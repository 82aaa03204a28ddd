"""What may be wrong with a photo."""


class UnreadablePhotoError(ValueError):
    """A photo that its decoder cannot read, or that is refused; the message says why."""
