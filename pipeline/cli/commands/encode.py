from typing import Annotated

from model.codec import Codec
from model.files import TargetOutOfReachError, encode_photo
from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError
from pipeline.cli import options
from pipeline.cli.terminal import fail, stdout
from transforms.find import find_files
from transforms.load import load_photo
from transforms.storage.files import write_bytes


def encode(
    photo: Annotated[str, options.place("PHOTO")],
    rgc: Annotated[str, options.place("RGC")],
    target_ms_ssim: options.TargetMsSsim = None,
    max_bpp: options.MaxBpp = None,
    iterations: options.EncodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
    overwrite: options.Overwrite = False,
) -> None:
    """Encode one photo, without Beam."""
    settings = options.read_settings(target_ms_ssim, max_bpp, iterations)
    options.check_destination(photo, rgc, overwrite, "RGC")
    codec = Codec.load(options.find_device(device))
    try:
        found = list(find_files(photo))
        if len(found) != 1:
            fail(f"{photo}: {len(found)} files, not one; rgc compress takes folders")
        loaded = load_photo(found[0])
        file = encode_photo(codec, loaded.decoded, settings, loaded.source_record(settings))
        data = file.to_bytes()
        write_bytes(rgc, data)
    except (NotAPhotoError, UnreadablePhotoError, TargetOutOfReachError, OSError) as error:
        fail(f"{photo}: {error}")
    rate = len(data) * 8 / (file.width * file.height)
    stdout.print(f"{rgc}: {len(data)} bytes, {rate:.3f} bits per pixel, MS-SSIM {file.ms_ssim[-1]:.4f}")
