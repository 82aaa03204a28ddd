"""Sample photos that an installed dependency ships, for a first try: prints a glob that matches them."""

from pathlib import Path

import skimage


def sample_folder() -> Path:
    """scikit-image's own data folder: photographs among other pictures and files."""
    return Path(skimage.__file__).parent / "data"


if __name__ == "__main__":
    print(sample_folder() / "*.[jp][pn]g")
