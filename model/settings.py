"""What a photo is encoded to: a quality, a size or a number of iterations."""

import json
import math
from dataclasses import dataclass

DEFAULT_TARGET_MS_SSIM = 0.985


@dataclass(frozen=True)
class Settings:
    """Exactly one of the three is set; `default()` sets the quality that the README recommends.

    Attributes:
        target_ms_ssim: the first iteration that reaches it is the last; above 0, below 1.
        max_bits_per_pixel: as many iterations as fit, the whole file counted.
        iterations: this many.

    Raises:
        ValueError: none or several are set, or one is out of its range.
    """

    target_ms_ssim: float | None = None
    max_bits_per_pixel: float | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        if len(self._set()) != 1:
            raise ValueError(
                f"set one of target_ms_ssim, max_bits_per_pixel and iterations, not {self._set() or 'none'}"
            )
        if self.target_ms_ssim is not None and not 0 < self.target_ms_ssim < 1:
            raise ValueError(f"target_ms_ssim is {self.target_ms_ssim}; it lies above 0 and below 1")
        if self.max_bits_per_pixel is not None and not 0 < self.max_bits_per_pixel < math.inf:
            raise ValueError(f"max_bits_per_pixel is {self.max_bits_per_pixel}; it lies above 0")
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; it is at least 1")

    @classmethod
    def default(cls) -> "Settings":
        return cls(target_ms_ssim=DEFAULT_TARGET_MS_SSIM)

    @classmethod
    def from_options(
        cls, target_ms_ssim: float | None, max_bpp: float | None, iterations: int | None
    ) -> "Settings":
        """Settings from the options of the command line or `rgc.encode`; the default if none is given."""
        if target_ms_ssim is None and max_bpp is None and iterations is None:
            return cls.default()
        return cls(target_ms_ssim, max_bpp, iterations)

    def to_json(self) -> str:
        """Canonical JSON: equal settings give equal text."""
        return json.dumps(self._set(), sort_keys=True, separators=(",", ":"))

    def _set(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}
