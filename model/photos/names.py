"""What names say of files: which are photos, and which need not be."""

from pathlib import PurePosixPath

PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .tif .tiff .webp .avif .heic .heif .hif .gif".split()
)
# Raw files are often TIFFs whose first image is a thumbnail, so they go by their names.
RAW_SUFFIXES = frozenset(
    (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf"
        " .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ).split()
)
VIDEO_SUFFIXES = frozenset(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpg .mpeg .mts .webm .wmv".split())
# What systems leave in folders of photos, some under names that end like a photo's.
_OF_SYSTEMS = {
    ".ds_store": "macOS keeps a folder's view in it",
    "thumbs.db": "Windows keeps thumbnails in it",
    "ehthumbs.db": "Windows keeps thumbnails in it",
    "desktop.ini": "Windows keeps a folder's view in it",
    ".picasa.ini": "Picasa keeps its notes in it",
}
_FOLDERS_OF_SYSTEMS = {
    "@eadir": "a Synology NAS keeps thumbnails there",
    "__macosx": "macOS keeps what ZIP files have no place for there",
    ".appledouble": "a file server keeps what macOS adds there",
    ".spotlight-v100": "macOS keeps its index there",
    ".trashes": "macOS keeps what was deleted there",
    ".fseventsd": "macOS keeps its log there",
    "$recycle.bin": "Windows keeps what was deleted there",
    "system volume information": "Windows keeps its own there",
    "#recycle": "a Synology NAS keeps what was deleted there",
    ".@__thumb": "a QNAP NAS keeps thumbnails there",
}
_APPLE_DOUBLE = b"\0\5\x16\7"


class NotAPhotoError(ValueError):
    """A file that is no photo rgc reads, and need not be one: it stays as it is."""


def check_name(name: str) -> None:
    """Raises NotAPhotoError for names of files that hold something else."""
    path = PurePosixPath(name)
    for part in path.parts[:-1]:
        if (why := _FOLDERS_OF_SYSTEMS.get(part.lower())) is not None:
            raise NotAPhotoError(f"in {part}: {why}")
    if (why := _OF_SYSTEMS.get(path.name.lower())) is not None:
        raise NotAPhotoError(f"{path.name}: {why}")
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise NotAPhotoError(f"a camera raw file ({suffix}): the original is the better archive")
    if suffix in VIDEO_SUFFIXES:
        raise NotAPhotoError(f"a video ({suffix})")
    if suffix not in PHOTO_SUFFIXES:
        raise NotAPhotoError(f"not a photo rgc reads ({suffix or 'no suffix'})")


def check_start(name: str, data: bytes) -> None:
    """Raises NotAPhotoError for what macOS writes beside a photo, `._a.jpg` beside `a.jpg`.

    By its first bytes, too: a photo may be called so.
    """
    if PurePosixPath(name).name.startswith("._") and data.startswith(_APPLE_DOUBLE):
        raise NotAPhotoError("what macOS keeps beside a file on disks of others (AppleDouble)")
