import pytest

from model.photos.names import NotAPhotoError, check_name, check_start


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "a/Thumbs.db",
        "b/desktop.ini",
        "@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg",
        "__MACOSX/trip/._a.jpg",
    ],
)
def test_what_systems_leave_is_no_photo(name: str) -> None:
    with pytest.raises(NotAPhotoError, match=r"keep"):
        check_name(name)


def test_apple_double_by_name_and_by_content() -> None:
    check_name("trip/._a.jpg")
    check_start("trip/._a.jpg", b"\xff\xd8\xff")  # a photo that is called so
    check_start("trip/a.jpg", b"\0\5\x16\7")
    with pytest.raises(NotAPhotoError, match="AppleDouble"):
        check_start("trip/._a.jpg", b"\0\5\x16\7" + bytes(100))
